"""VTN as a regtool method."""
