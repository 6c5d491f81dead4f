"""MinIO, the reference store, built with Go from the module proxy: `make minio` installs it and starts it on loopback.

Its community server is archived and published as source only. The program lies below `var/`, out of git; the tests of
the store requirements start it by themselves.
"""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

MODULE: Final = "github.com/minio/minio"
VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""The newest commit that the module proxy serves; it has none of the tags `RELEASE.…`, the last of which is
RELEASE.2025-10-15T17-29-55Z."""

ROOT: Final = Path(__file__).resolve().parent.parent
DIRECTORY: Final = ROOT / "var" / "minio"
PROGRAM: Final = DIRECTORY / VERSION / "minio"
NOT_INSTALLED: Final = "MinIO is not installed here: `python tools/minio.py install` builds it, which needs Go"

# Beside the platforms of `zhichao run`.
DEFAULT_ADDRESS: Final = "127.0.0.1:9000"
# Two cores need three minutes; a download over a slow line comes on top.
BUILD_SECONDS_MAX: Final = 1800.0
_EXIT_UNAVAILABLE: Final = 69


def program() -> Path | None:
    """Return the installed server of this version, None when there is none."""
    return PROGRAM if os.access(PROGRAM, os.X_OK) else None


def install() -> Path | None:
    """Build the server unless it is there, and return it; None, with a line that says why, where it cannot be built."""
    if (found := program()) is not None:
        return found
    go = shutil.which("go")
    if go is None:
        sys.stdout.write("MinIO cannot be built: there is no Go here; tests against it are skipped\n")
        return None
    sys.stdout.write(f"Building MinIO {VERSION} with Go: some minutes\n")
    sys.stdout.flush()
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = [go, "install", "-ldflags=-s -w", f"{MODULE}@{VERSION}"]
    try:
        subprocess.run(command, env={**os.environ, "GOBIN": str(PROGRAM.parent)}, check=True, timeout=BUILD_SECONDS_MAX)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.stdout.write(f"MinIO cannot be built: {error}\n")
        return None
    return program()


def start(address: str, directory: Path) -> int:
    """Become the server, with a key made at the first start; return an exit status when there is none."""
    server = install()
    if server is None:
        return _EXIT_UNAVAILABLE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = dict(os.environ)
    for variable, name in (("MINIO_ROOT_USER", "access.key"), ("MINIO_ROOT_PASSWORD", "secret.key")):
        path = directory / name
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(16)}\n")
        environment[variable] = path.read_text("ascii").strip()
    sys.stdout.write(
        f"MinIO at http://{address}; use it with\n"
        f"  ZHICHAO_VIDEO_S3_ENDPOINT=http://{address}\n"
        f"  ZHICHAO_VIDEO_S3_ACCESS_KEY_FILE={directory / 'access.key'}\n"
        f"  ZHICHAO_VIDEO_S3_SECRET_KEY_FILE={directory / 'secret.key'}\n"
        "Ctrl-C stops it.\n"
    )
    sys.stdout.flush()
    command = [str(server), "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0"]
    environment["MINIO_BROWSER"] = "off"
    return os.execve(server, [*command, str(directory / "data")], environment)  # noqa: S606 - no shell is the point


def main() -> int:
    """Install, or install and start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["install", "start"])
    parser.add_argument("--address", default=DEFAULT_ADDRESS)
    parser.add_argument("--data", type=Path, default=DIRECTORY / "server")
    options = parser.parse_args()
    if options.action == "start":
        return start(options.address, options.data.absolute())
    # A machine without Go lacks some tests and nothing else.
    return 0 if install() is not None or shutil.which("go") is None else 1


if __name__ == "__main__":
    sys.exit(main())
