"""`python -m bench.quality`."""

import sys

from keyvid.command import run_main

if __name__ == "__main__":
    sys.exit(run_main("bench.quality.command", "python -m bench.quality", "export"))
