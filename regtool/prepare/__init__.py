"""From files to what a network sees, and back: the same code for registration and training."""
