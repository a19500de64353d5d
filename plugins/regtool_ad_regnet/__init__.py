"""AD-RegNet as a regtool method."""
