"""Persons responsible for a source unit: what is refused about them. Personal data: no refusal repeats a value.

Pure; standard library only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from services.registry import forms
from services.registry.forms import Violation

RESPONSIBLE_PERSONS_MAX: Final = 16
"""Persons named for one unit (the contract): the plans name three duties, with deputies and shifts."""


class ResponsibleDuty(IntEnum):
    """What somebody answers for; the numbers are those of the contract."""

    UNIT_HEAD = 1
    SUPERVISOR = 2
    MAINTAINER = 3


@dataclass(frozen=True, slots=True)
class ResponsiblePerson:
    """Somebody who answers for a source unit."""

    duty: int
    name: str
    phone_number: str


def persons_violations(persons: Sequence[ResponsiblePerson]) -> list[Violation]:
    """Return every field that refuses the persons of one unit."""
    if len(persons) > RESPONSIBLE_PERSONS_MAX:
        # Each of a million would be named otherwise.
        return [Violation("responsible_persons", f"names {len(persons)}, but takes at most {RESPONSIBLE_PERSONS_MAX}")]
    found: list[Violation] = []
    seen: dict[tuple[int, str], int] = {}
    for position, person in enumerate(persons):
        path = f"responsible_persons[{position}]"
        if person.duty not in [*ResponsibleDuty]:
            names = ", ".join(member.name for member in ResponsibleDuty)
            found.append(Violation(f"{path}.duty", f"is {person.duty}, but must be one of {names}"))
        if description := forms.person_name(person.name):
            found.append(Violation(f"{path}.name", description))
        if description := forms.optional(forms.phone_number)(person.phone_number):
            found.append(Violation(f"{path}.phone_number", description))
        first = seen.setdefault((person.duty, person.name), position)
        if first != position:
            found.append(Violation(path, f"has the duty and name of responsible_persons[{first}]; name each once"))
    return found
