"""Instance optimisation: a deformation fitted to one pair of images, coarse to fine."""
