"""What is seen in clips of the synthetic world: `python -m bench.quality --help`."""
