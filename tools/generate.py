"""Generate the Python code in gen/ from protos/, or check that it is in step.

Generation goes to a temporary directory first; gen/ is then made equal to it, so a removed proto leaves nothing
behind. Generated packages are namespace packages: gen/ holds no __init__.py and nothing written by hand.
"""

import argparse
import os
import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "gen"
GENERATED_SUFFIXES = (".py", ".pyi")

SERVICE_DEFINITION = re.compile(r"^service\s+\w+", re.MULTILINE)


def run_protoc(protos: list[Path], outputs: list[str]) -> None:
    """Run the compiler on the protos with the given output options; exit with its status when it refuses."""
    # The plugins stand beside the interpreter of the environment that was asked to generate.
    executables = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={executables / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={executables / 'protoc-gen-mypy_grpc'}",
            *outputs,
            *(proto.relative_to(PROTOS).as_posix() for proto in protos),
        ]
    )
    if status != 0:
        sys.exit(status)


def generate(protos: list[Path], target: Path) -> None:
    """Generate messages and type stubs for every proto, and RPC code only where a service is defined."""
    run_protoc(protos, [f"--python_out={target}", f"--mypy_out=quiet:{target}"])
    # Stored records have protos of their own; whoever reads them must not import RPC plumbing.
    with_services = [proto for proto in protos if SERVICE_DEFINITION.search(proto.read_text(encoding="utf-8"))]
    if with_services:
        run_protoc(with_services, [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"])


def contents(directory: Path) -> dict[str, bytes]:
    """Read every generated file below the directory, by its relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix in GENERATED_SUFFIXES
    }


def differences(wanted: dict[str, bytes], present: dict[str, bytes]) -> dict[str, str]:
    """Compare what should be in gen/ with what is there; one word for each file that differs."""
    found = {}
    for name in sorted(wanted.keys() | present.keys()):
        if name not in present:
            found[name] = "missing"
        elif name not in wanted:
            found[name] = "stale"
        elif wanted[name] != present[name]:
            found[name] = "outdated"
    return found


def apply(wanted: dict[str, bytes], differing: dict[str, str]) -> None:
    """Write missing and outdated files, remove stale ones and the directories they leave empty."""
    for name, state in differing.items():
        path = GENERATED / name
        if state == "stale":
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: another process that imports meanwhile sees the old file or the new one.
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(wanted[name])
        partial.replace(path)
    for directory in sorted((path for path in GENERATED.rglob("*") if path.is_dir()), reverse=True):
        if directory.name != "__pycache__" and all(entry.name == "__pycache__" for entry in directory.iterdir()):
            remove_with_cache(directory)


def remove_with_cache(directory: Path) -> None:
    """Remove a directory that holds nothing but compiled caches."""
    for cache in directory.iterdir():
        for compiled in cache.iterdir():
            compiled.unlink()
        cache.rmdir()
    directory.rmdir()


def main() -> int:
    """Generate, or with --check only compare; the exit status is 1 when gen/ is out of step."""
    parser = argparse.ArgumentParser(description="Generate the Python code in gen/ from protos/.")
    parser.add_argument("--check", action="store_true", help="change nothing; list the files that are out of step")
    check = parser.parse_args().check

    protos = sorted(PROTOS.rglob("*.proto"))
    if not protos:
        print("protos/ holds no .proto file", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="zhichao-gen-") as scratch:
        generate(protos, Path(scratch))
        wanted = contents(Path(scratch))
    differing = differences(wanted, contents(GENERATED))

    if check and differing:
        for name, state in differing.items():
            print(f"{state:>9}  gen/{name}", file=sys.stderr)
        print(f"gen/ is out of step with protos/ in {len(differing)} files: run make gen", file=sys.stderr)
        return 1
    if not check:
        apply(wanted, differing)
        for name, state in differing.items():
            print(f"{'removed' if state == 'stale' else 'written':>9}  gen/{name}")
    print(f"gen/ is in step with protos/: {len(wanted)} files from {len(protos)} protos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
