"""Media: pictures, sounds and clips as files and arrays."""
