"""Rigid and affine registration as methods of their own."""
