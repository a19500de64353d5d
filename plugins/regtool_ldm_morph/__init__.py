"""LDM-Morph as a regtool method."""
