"""DiffuseReg as a regtool method."""
