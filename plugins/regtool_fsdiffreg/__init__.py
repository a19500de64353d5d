"""FSDiffReg as a regtool method."""
