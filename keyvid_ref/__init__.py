"""Reference implementation of KeyVID in PyTorch: plain, exact, slow.

Import its modules; this file imports none, so that `keyvid_ref.world.world` comes without torch.
"""
