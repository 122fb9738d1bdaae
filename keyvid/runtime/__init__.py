"""The runtime: from an image and a sound to a clip, on NumPy and engines."""
