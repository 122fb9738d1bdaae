"""`python -m keyvid_ref.training`."""

import sys

from keyvid.command import run_main

if __name__ == "__main__":
    sys.exit(run_main("keyvid_ref.training.command", "python -m keyvid_ref.training", "export"))
