"""One line of the doctor: what was looked at, how it is, and what to do. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self


class Level(StrEnum):
    """How something is."""

    OK = "ok"
    # Works, and will not for ever, or not as it should.
    WARN = "warn"
    FAIL = "fail"
    # Not there to be looked at: not configured, or nobody told how to reach it.
    SKIP = "skip"


@dataclass(frozen=True)
class Text:
    """A sentence in both languages."""

    english: str
    chinese: str

    def __bool__(self) -> bool:
        return bool(self.english)


NOTHING = Text("", "")


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    level: Level
    message: Text
    remedy: Text = NOTHING

    def named(self, name: str) -> Self:
        """Return the finding under another name."""
        return replace(self, name=name)


def ok(english: str, chinese: str = "") -> Finding:
    """Make a finding that all is well."""
    return Finding("", Level.OK, Text(english, chinese))


def skip(english: str, chinese: str) -> Finding:
    """Make a finding that there was nothing to look at."""
    return Finding("", Level.SKIP, Text(english, chinese))


def warn(message: Text, remedy: Text) -> Finding:
    """Make a warning."""
    return Finding("", Level.WARN, message, remedy)


def fail(message: Text, remedy: Text) -> Finding:
    """Make a failure."""
    return Finding("", Level.FAIL, message, remedy)
