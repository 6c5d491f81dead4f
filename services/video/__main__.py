"""Runs one video service: `python -m services.video [--check-config]`."""

import sys

from services.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["video", *sys.argv[1:]]))
