"""Time, FLOP/s and memory: `pytest bench/speed`, and `python -m bench.speed` at full size."""
