"""DiffuseMorph as a regtool method."""
