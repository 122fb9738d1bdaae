"""`keyvid-score`."""
