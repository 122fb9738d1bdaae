"""`python -m bench.speed`."""

import sys

from keyvid.command import run_main

if __name__ == "__main__":
    sys.exit(run_main("bench.speed.command", "python -m bench.speed", "export"))
