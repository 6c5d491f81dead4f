"""Runs one enforcement service: `python -m services.enforcement [--check-config]`."""

import sys

from services.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["enforcement", *sys.argv[1:]]))
