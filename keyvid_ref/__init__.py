"""Reference implementation of KeyVID in PyTorch: plain, exact, slow."""
