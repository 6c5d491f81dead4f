"""Runs one registry: `python -m services.registry [--check-config]`."""

import sys

from services.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["registry", *sys.argv[1:]]))
