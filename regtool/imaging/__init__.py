"""Checked reading, atomic writing, transform files, resampling and initial alignment."""
