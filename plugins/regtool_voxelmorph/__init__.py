"""VoxelMorph and VoxelMorph-diff as regtool methods."""
