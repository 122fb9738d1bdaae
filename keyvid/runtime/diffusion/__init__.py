"""Diffusion: schedules, guidance, noise and windows, on NumPy."""
