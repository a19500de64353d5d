"""A stranger's plugin for regtool."""
