"""Training of the packaged model."""
