"""What a command tells a person who made a mistake is in both languages: English, then Chinese on the same line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.contract.documents import ROOT, tracked_files

CHINESE = re.compile(r"[\u4e00-\u9fff]")
# A sentence, and not only values that are put together.
ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")

CLICK = {"ClickException", "UsageError", "BadParameter"}

NOT_FOR_PEOPLE = {
    # Of this repository's own programs: tests, simulations and benches read them.
    "PlatformProcessError",
    "QueueFullError",
    # Shown as what a finding says of a note, beside its own text.
    "UnreadableNoteError",
    # The connections of `doctor` end in these; its findings say what it means.
    "SSLError",
    # Services have one language in their settings, and a catalogue of reasons with both.
    "ServiceError",
    "SettingsError",
}


def sentence(node: ast.expr) -> str:
    """Return the fixed parts of a literal, with `{}` for the others; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def errors_of_commands() -> set[str]:
    """Return the names of the exceptions that cli/ defines, and click's own."""
    defined = {
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    return (defined | CLICK) - NOT_FOR_PEOPLE


def sources() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(ROOT / "cli")]


def told(path: Path, errors: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of every error with a text of its own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in errors:
                yield from ((node.lineno, text) for argument in node.args if (text := sentence(argument)))


def test_errors_of_commands_are_told_in_both_languages() -> None:
    errors = errors_of_commands()
    one_language = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sources()
        for line, text in told(path, errors)
        if ENGLISH.search(text) and not CHINESE.search(text)
    ]

    assert one_language == []


def test_there_are_errors_to_look_at() -> None:
    errors = errors_of_commands()

    assert {"UpError", "BackupError", "PkiError", "TargetError", "UsageError"} <= errors
    assert sum(1 for path in sources() for _ in told(path, errors)) > 100
