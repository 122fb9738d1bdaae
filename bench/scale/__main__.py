"""`python -m bench.scale`."""

import sys

from keyvid.command import run_main

if __name__ == "__main__":
    sys.exit(run_main("bench.scale.command", "python -m bench.scale", "dev"))
