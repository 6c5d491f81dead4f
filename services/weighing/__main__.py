"""Runs one weighing service: `python -m services.weighing [--check-config]`."""

import sys

from services.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["weighing", *sys.argv[1:]]))
