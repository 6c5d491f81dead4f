"""Owns an embedded server from a process of its own: starts it, prints what it knows as JSON, and stops it when its
standard input closes. `--outlived` makes a server that is not told when its owner dies.
"""

import argparse
import json
import sys
from pathlib import Path

from cli.postgres import EmbeddedPostgres, PostgresError, launcher


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--outlived", action="store_true")
    parser.add_argument("--sql", default="SELECT 1")
    arguments = parser.parse_args()
    if arguments.outlived:
        told = launcher.command
        launcher.command = lambda program, *, signal_number, account=None: told(
            program, signal_number=0 * signal_number, account=account
        )
    try:
        with EmbeddedPostgres(arguments.directory, databases=["weighing"]) as server:
            answer = server.query(arguments.sql, database="weighing")
            known = {"pid": server.pid, "account": server.account, "url": server.url("weighing"), "answer": answer}
            print(json.dumps(known), flush=True)
            sys.stdin.read()
    except PostgresError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
