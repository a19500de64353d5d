"""Noise schedules, the steps between their levels, and sampling that can be watched and steered."""
