"""Pure functions on tensors: grids, warps, composition, integration, inversion, determinants."""
