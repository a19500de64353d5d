"""SyN of ANTs as a method; ANTs itself is installed separately (antspyx)."""
