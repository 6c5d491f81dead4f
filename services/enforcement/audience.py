"""To whom a directive goes and who is asked to respond: from the audiences, the platforms that are registered, and
which division lies below which. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.common.access.divisions import LEVELS_MAX, Divisions
from services.enforcement.domain import RecipientScope
from services.enforcement.forms import Violation
from services.enforcement.limits import AUDIENCES_MAX


@dataclass(frozen=True, slots=True)
class RegisteredPlatform:
    """A platform as a registry says. Days are `YYYY-MM-DD`, empty when open."""

    platform_code: str
    origin: str
    """Platform whose registry says so."""
    valid_from: str = ""
    valid_until: str = ""
    """First day out of service."""

    def is_valid(self, day: str) -> bool:
        """Tell whether it is in service on a day."""
        return self.valid_from <= day and (not self.valid_until or day < self.valid_until)


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who is asked."""

    platforms: tuple[str, ...]
    """Platform codes, ascending."""
    places_without_platform: tuple[int, ...]
    """Places of the audiences in which nobody is asked."""


def outside(audiences: Sequence[str], division: str, divisions: Divisions) -> Iterator[Violation]:
    """Yield the audiences that do not lie within a division. Nothing is issued upwards or sideways."""
    for place, code in enumerate(audiences):
        if not divisions.is_within(code, division):
            yield Violation(f"audiences[{place}]", f"is {code}, which does not lie within {division}")


def overlapping(audiences: Sequence[str], divisions: Divisions) -> Iterator[Violation]:
    """Yield the audiences that lie within another one: their platforms would receive the directive twice.

    More audiences than one directive has are not compared: each is held against each.
    """
    if len(audiences) > AUDIENCES_MAX:
        return
    for place, code in enumerate(audiences):
        for other in audiences:
            if other != code and divisions.is_within(code, other):
                yield Violation(f"audiences[{place}]", f"is {code}, which lies within {other}, named as well")
                break


def recipients(
    registered: Iterable[RegisteredPlatform],
    audiences: Sequence[str],
    scope: int,
    own: str,
    day: str,
    divisions: Divisions,
) -> Recipients:
    """Return who is asked when the platform `own` issues a directive on a day.

    What this platform has registered itself counts before what others say; a platform below can say of those within
    its own division only who they are, so that none is entered in another's list.
    """
    codes = _in_service(registered, own, day, divisions)
    asked: set[str] = set()
    places_without_platform = []
    for place, audience in enumerate(audiences):
        within = {code for code in codes if divisions.is_within(code, audience)}
        if not within:
            places_without_platform.append(place)
        asked |= within if scope == RecipientScope.SUBTREE else _highest(within, divisions)
    return Recipients(tuple(sorted(asked)), tuple(places_without_platform))


def _in_service(registered: Iterable[RegisteredPlatform], own: str, day: str, divisions: Divisions) -> set[str]:
    """Return the platforms below `own` that are in service."""
    said_here: dict[str, bool] = {}
    said_below: set[str] = set()
    for platform in registered:
        code = platform.platform_code
        if code == own or not divisions.is_within(code, own):
            continue
        if platform.origin == own:
            said_here[code] = platform.is_valid(day)
        elif divisions.is_within(code, platform.origin) and platform.is_valid(day):
            said_below.add(code)
    return {code for code, is_valid in said_here.items() if is_valid} | (said_below - said_here.keys())


def _highest(codes: set[str], divisions: Divisions) -> set[str]:
    """Return the platforms that lie below no other of them."""
    return {code for code in codes if not any(code != other and divisions.is_within(code, other) for other in codes)}


def line_of(code: str, divisions: Divisions) -> tuple[str, ...]:
    """Return a division and those above it, from the bottom up: what is addressed to one of them is meant for it."""
    line = [code]
    while len(line) < LEVELS_MAX and (above := divisions.above(line[-1])) and above not in line:
        line.append(above)
    return tuple(line)
