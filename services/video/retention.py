"""How long evidence is kept at least: classes with days, read from a table that names its source. Pure.

Evidence keeps the end that it was sealed with; another table later changes nothing about it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from services.video.domain import EvidenceKind
from services.video.forms import shown
from services.video.limits import RETENTION_CLASS_CHARACTERS_MAX

DAYS_MAX: Final = 30 * 366
"""Longest class: what an extension may ask for, 30 years."""

CLASSES_MAX: Final = 64
"""Classes in one table: a page that a person can read."""

_CLASS: Final = re.compile(rf"[a-z0-9-]{{1,{RETENTION_CLASS_CHARACTERS_MAX}}}")
_KINDS: Final = {kind.name.lower(): kind for kind in EvidenceKind}


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """One class."""

    retention_class: str
    title: str
    title_zh: str
    days: int
    kinds: frozenset[EvidenceKind]

    def retain_until(self, moment: datetime) -> datetime:
        """Return until when evidence that is sealed at a moment is kept at least."""
        return moment + timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class RetentionTable:
    """The classes in force."""

    source_document: str
    classes: Mapping[str, RetentionClass]
    defaults: Mapping[EvidenceKind, RetentionClass]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a table from JSON. Raises ValueError with a sentence about the first thing that is wrong."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from error
        if not isinstance(content, dict) or set(content) != {"source_document", "classes"}:
            raise ValueError("must be an object with source_document and classes")
        source_document, rows = content["source_document"], content["classes"]
        if not isinstance(source_document, str) or not source_document.strip():
            raise ValueError("source_document must name where the figures come from")
        if not isinstance(rows, list) or not 1 <= len(rows) <= CLASSES_MAX:
            raise ValueError(f"classes must be a list of 1 to {CLASSES_MAX}")
        classes: dict[str, RetentionClass] = {}
        defaults: dict[EvidenceKind, RetentionClass] = {}
        for place, row in enumerate(rows):
            found, default_of = _class(f"classes[{place}]", row)
            if found.retention_class in classes:
                raise ValueError(f"classes[{place}] is the second {found.retention_class}")
            classes[found.retention_class] = found
            for kind in default_of:
                if kind in defaults:
                    raise ValueError(f"classes[{place}] is the second default of {kind.name.lower()}")
                defaults[kind] = found
        if missing := [kind.name.lower() for kind in EvidenceKind if kind not in defaults]:
            raise ValueError(f"no class is the default of {missing[0]}")
        return cls(source_document, classes, defaults)

    def class_of(self, kind: EvidenceKind, wanted: str) -> RetentionClass:
        """Return the class that a draft names, or the one for its kind. Raises ValueError with what is wrong."""
        if not wanted:
            return self.defaults[kind]
        found = self.classes.get(wanted)
        if found is None or kind not in found.kinds:
            taken = ", ".join(sorted(name for name, one in self.classes.items() if kind in one.kinds))
            raise ValueError(f"is {shown(wanted)}, but a {kind.name.lower()} has one of {taken}")
        return found


def _class(path: str, row: Any) -> tuple[RetentionClass, frozenset[EvidenceKind]]:
    fields = {"retention_class", "title", "title_zh", "days", "kinds", "default_of"}
    if not isinstance(row, dict) or set(row) != fields:
        raise ValueError(f"{path} must be an object with {', '.join(sorted(fields))}")
    name, days = row["retention_class"], row["days"]
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        raise ValueError(f"{path}.retention_class must be 1 to {RETENTION_CLASS_CHARACTERS_MAX} of a-z 0-9 -")
    for field in ("title", "title_zh"):
        if not isinstance(row[field], str) or not row[field].strip():
            raise ValueError(f"{path}.{field} is missing")
    # type() and not isinstance(): true is not a number of days.
    if type(days) is not int or not 1 <= days <= DAYS_MAX:
        raise ValueError(f"{path}.days must be 1 to {DAYS_MAX}")
    kinds, default_of = _kinds(f"{path}.kinds", row["kinds"]), _kinds(f"{path}.default_of", row["default_of"])
    if not kinds:
        raise ValueError(f"{path}.kinds is empty")
    if not default_of <= kinds:
        raise ValueError(f"{path}.default_of names what is not among its kinds")
    return RetentionClass(name, row["title"], row["title_zh"], days, kinds), default_of


def _kinds(path: str, names: Any) -> frozenset[EvidenceKind]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name in _KINDS for name in names):
        raise ValueError(f"{path} must be a list of {', '.join(_KINDS)}")
    return frozenset(_KINDS[name] for name in names)
