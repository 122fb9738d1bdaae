"""Measurements: `bench.speed` of calls and clips, `bench.quality` of what is seen in clips."""
