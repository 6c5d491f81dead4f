"""Runs one relay: `python -m services.relay [--check-config]`."""

import sys

from services.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["relay", *sys.argv[1:]]))
