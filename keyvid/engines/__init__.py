"""Engines: a stage of a bundle made callable by a backend."""
