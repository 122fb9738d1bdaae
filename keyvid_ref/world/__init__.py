"""A drawn world to learn from: small scenes that move when the sound does."""
