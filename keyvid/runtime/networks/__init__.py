"""Networks: the stages of a bundle, open as far as the memory allows."""
