"""Sampling of fields as a user asks for it: steered, watched, stopped, resumed, repeated."""
