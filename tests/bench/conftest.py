"""The benchmark's modules import each other by plain names, as its command does."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "bench")]
