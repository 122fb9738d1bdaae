"""`python -m keyvid_ref.training`."""

from keyvid_ref.training.command import main

if __name__ == "__main__":
    main()
