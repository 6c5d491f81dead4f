"""Reads the documents of the repository: their code blocks, links and headings."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<'(\w+)'.*?^\1$", re.MULTILINE | re.DOTALL)


def tracked_files() -> list[Path]:
    """Return every file that is committed, or will be with the next `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in sorted(set(listed.split("\0"))) if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """Return a file's text, or None when it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def documents() -> list[Path]:
    """Return all Markdown files."""
    return [path for path in tracked_files() if path.suffix == ".md"]


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block."""

    document: Path
    language: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command line; what a here-document holds is no command."""
        text = _HERE_DOCUMENT.sub("", self.text).replace("\\\n", " ")
        for line in text.splitlines():
            if line.strip():
                yield shlex.split(line, comments=True)


def code_blocks(document: Path, language: str) -> list[CodeBlock]:
    """Return a document's blocks of one language, in order."""
    return [block for block in all_code_blocks(document) if block.language == language]


def all_code_blocks(document: Path) -> list[CodeBlock]:
    """Return all blocks of a document, in order."""
    found = _FENCE.findall(document.read_text(encoding="utf-8"))
    return [CodeBlock(document, name, text) for name, text in found]


def links(document: Path) -> list[str]:
    """Return the targets of all links outside of code blocks."""
    return _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))


def anchors(document: Path) -> set[str]:
    """Return what a link may name after `#`: the headings as GitHub writes them."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
