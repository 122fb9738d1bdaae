"""A bundle: manifest, files and what its graphs read, checked before anything runs."""
