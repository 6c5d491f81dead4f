"""Write the release of pyproject.toml wherever deploy/ and its guide name it, or check that all of it is in step.

The version is decided in one place. Manifests need it in others: an image's tag, and the names of the Jobs that
migrate, because a Job cannot be changed and kustomize computes no names.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

NAMED: Final = {
    "a tag in a kustomization": re.compile(r"(?<=\bnewTag: )(?P<dotted>\d+\.\d+\.\d+)$", re.MULTILINE),
    "an image": re.compile(r"(?<=\bzhichao:)(?P<dotted>\d+\.\d+\.\d+)\b"),
    "a Job that migrates": re.compile(r"(?<=-migrate-)(?P<dashed>\d+-\d+-\d+)\b"),
}
"""How files name this release, by what it is that they name. Other versions stand there in other forms."""


def version_of(root: Path = ROOT) -> str:
    """Return the version in a checkout's pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def dashed(version: str) -> str:
    """Return a version as it stands in the name of a Job, where a dot would end up in a host name."""
    return version.replace(".", "-")


def files(root: Path = ROOT) -> Iterator[Path]:
    """Yield the files that may name the release."""
    yield from sorted(path for path in (root / "deploy").rglob("*") if path.is_file())
    yield root / "docs" / "operate" / "kubernetes.md"


def in_step(text: str, version: str) -> str:
    """Return a file's text with this version wherever it names one of ours."""

    def replacement(found: re.Match[str]) -> str:
        return dashed(version) if "dashed" in found.re.groupindex else version

    for pattern in NAMED.values():
        text = pattern.sub(replacement, text)
    return text


def behind(root: Path = ROOT) -> dict[Path, str]:
    """Return the files that name another release than pyproject.toml, with the text that they should have."""
    version = version_of(root)
    texts = {path: path.read_text(encoding="utf-8") for path in files(root)}
    wanted = {path: in_step(text, version) for path, text in texts.items()}
    return {path: text for path, text in wanted.items() if text != texts[path]}


def main() -> None:
    """Write, or with --check only tell; the exit status is then 1 when a file is behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file names another release")
    is_check = parser.parse_args().check
    for path, text in (changed := behind()).items():
        print(f"{path.relative_to(ROOT)} {'names another release than' if is_check else 'now names'} {version_of()}")
        if not is_check:
            path.write_text(text, encoding="utf-8")
    if is_check and changed:
        sys.exit("run make release")


if __name__ == "__main__":
    main()
