"""Noise schedules and the steps between them, thin over diffusers."""
