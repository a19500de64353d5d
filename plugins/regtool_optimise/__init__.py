"""Instance optimisation, the training-free reference, as a method."""
