"""`python -m keyvid_ref.world`."""

import sys

from keyvid.command import run_main

if __name__ == "__main__":
    sys.exit(run_main("keyvid_ref.world.files", "python -m keyvid_ref.world", "export"))
