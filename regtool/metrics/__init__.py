"""Measures of how well a registration did, each with its equation and source."""
