"""What custody events add up to: which holds stand, until when evidence is kept, what is asked for, whether bytes are
gone. Pure, and the same in whatever order the logs of several platforms arrive: within one log its sequences decide,
and what several platforms say never contradicts. Holds and retention are asked of tables that the projection keeps;
here stands what these have to say, and tests hold the two together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

EXTENSION_DAYS_MAX: Final = 30 * 366
"""Days that retention may be moved ahead of today (the contract: 30 years; leap years are on the safe side)."""

REQUEST_DAYS_DEFAULT: Final = 7
"""Days that bytes are asked for when nobody says until when (the contract)."""

REQUEST_DAYS_MAX: Final = 90
"""Most days that bytes are asked for: a platform that was out of reach for a season gives up, and whoever still wants
them asks again."""


class CustodyAction(IntEnum):
    """What was done with evidence, numbered as in the contract."""

    VIEWED = 1
    DOWNLOADED = 2
    EXPORTED = 3
    SHARED = 4
    HOLD_PLACED = 5
    HOLD_RELEASED = 6
    RETENTION_EXTENDED = 7
    REQUESTED = 8
    RECEIVED = 9
    DELETED = 10
    FOUND_MISSING = 11
    FOUND_CHANGED = 12
    RESTORED = 13


COMING_AND_GOING: Final = (
    CustodyAction.RECEIVED,
    CustodyAction.DELETED,
    CustodyAction.FOUND_MISSING,
    CustodyAction.FOUND_CHANGED,
    CustodyAction.RESTORED,
)
"""What says whether a platform has the bytes."""


@dataclass(frozen=True, slots=True)
class CustodyFact:
    """One custody event of one piece of evidence, as far as anything follows from it."""

    platform: str
    """Owner of the log that it stands in."""
    sequence: int
    """Place in that log."""
    action: int
    event_time: datetime
    purpose: str = ""
    actor: str = ""
    reference_id: str = ""
    until_time: datetime | None = None


def standing_holds(facts: Iterable[CustodyFact]) -> tuple[CustodyFact, ...]:
    """Return the placements of the holds that stand, the oldest first.

    A hold belongs to the platform that placed it: only its own log can release it, and the newest word of that log
    counts.
    """
    newest: dict[tuple[str, str], CustodyFact] = {}
    for fact in facts:
        if fact.action in (CustodyAction.HOLD_PLACED, CustodyAction.HOLD_RELEASED):
            key = (fact.platform, fact.reference_id)
            if key not in newest or newest[key].sequence < fact.sequence:
                newest[key] = fact
    standing = [fact for fact in newest.values() if fact.action == CustodyAction.HOLD_PLACED]
    return tuple(sorted(standing, key=lambda one: (one.event_time, one.platform, one.reference_id)))


def retained_until(sealed_until: datetime, facts: Iterable[CustodyFact]) -> datetime:
    """Return until when evidence is kept: as sealed, or as the furthest extension says. Never earlier than before."""
    extensions = [
        fact.until_time
        for fact in facts
        if fact.action == CustodyAction.RETENTION_EXTENDED and fact.until_time is not None
    ]
    return max([sealed_until, *extensions])


def open_request(facts: Iterable[CustodyFact], platform: str, now: datetime) -> CustodyFact | None:
    """Return the request of a platform that is still open, the newest of several; None when there is none.

    What has arrived since, or whose deadline has come, is asked for no more.
    """
    own = [fact for fact in facts if fact.platform == platform]
    received = max((fact.sequence for fact in own if fact.action == CustodyAction.RECEIVED), default=0)
    standing = [
        fact
        for fact in own
        if fact.action == CustodyAction.REQUESTED
        and fact.sequence > received
        and fact.until_time is not None
        and fact.until_time > now
    ]
    return max(standing, key=lambda one: one.sequence, default=None)


def delete_time(facts: Iterable[CustodyFact], platform: str) -> datetime | None:
    """Return when a platform deleted the bytes after their retention; None when it has not, or has got them again."""
    coming_and_going = (CustodyAction.DELETED, CustodyAction.RECEIVED, CustodyAction.RESTORED)
    own = [fact for fact in facts if fact.platform == platform and fact.action in coming_and_going]
    newest = max(own, key=lambda one: one.sequence, default=None)
    return newest.event_time if newest is not None and newest.action == CustodyAction.DELETED else None


def holders(facts: Iterable[CustodyFact], seals: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Return the platforms that have bytes, by the newest word of each log.

    `seals` are the manifests that name the bytes, each the platform that sealed it and its place in that log: then it
    had them. What a platform received or restored it has; what it deleted, or found missing or changed, it has not.
    """
    newest = dict[str, tuple[int, bool]]()
    words = [(platform, sequence, True) for platform, sequence in seals]
    words += [
        (fact.platform, fact.sequence, fact.action in (CustodyAction.RECEIVED, CustodyAction.RESTORED))
        for fact in facts
        if fact.action in COMING_AND_GOING
    ]
    for platform, sequence, has_it in words:
        newest[platform] = max(newest.get(platform, (0, False)), (sequence, has_it))
    return frozenset(platform for platform, (_, has_it) in newest.items() if has_it)


def lost_as(facts: Iterable[CustodyFact], platform: str) -> CustodyAction | None:
    """Return how a platform found the bytes last, FOUND_MISSING or FOUND_CHANGED; None when they are well since."""
    findings = (CustodyAction.FOUND_MISSING, CustodyAction.FOUND_CHANGED)
    ends = (CustodyAction.RESTORED, CustodyAction.RECEIVED)
    own = [fact for fact in facts if fact.platform == platform and fact.action in (*findings, *ends)]
    newest = max(own, key=lambda one: one.sequence, default=None)
    return CustodyAction(newest.action) if newest is not None and newest.action in findings else None


def extension_violation(until_time: datetime, now: datetime) -> str:
    """Return what is wrong with a new end of retention, whatever is in force."""
    if until_time <= now:
        return f"is {shown_time(until_time)}, but must lie ahead; it is {shown_time(now)}"
    if until_time > now + timedelta(days=EXTENSION_DAYS_MAX):
        return f"is {shown_time(until_time)}, but must lie at most 30 years ahead"
    return ""


def deadline_violation(deadline_time: datetime, now: datetime) -> str:
    """Return what is wrong with the deadline of a request for bytes."""
    if deadline_time <= now:
        return f"is {shown_time(deadline_time)}, but must lie ahead; it is {shown_time(now)}"
    if deadline_time > now + timedelta(days=REQUEST_DAYS_MAX):
        return f"is {shown_time(deadline_time)}, but must lie at most {REQUEST_DAYS_MAX} days ahead"
    return ""


def audience_of(evidence_origin: str, own: str) -> str:
    """Return to whom an event goes that has to be known where the evidence was sealed; empty when that is here."""
    return "" if evidence_origin == own else evidence_origin


def duplicates(names: Sequence[tuple[str, str, str]]) -> list[int]:
    """Return the places of names that stand before in the list already."""
    seen: set[tuple[str, str, str]] = set()
    places = []
    for place, name in enumerate(names):
        if name in seen:
            places.append(place)
        seen.add(name)
    return places


def shown_time(moment: datetime) -> str:
    """Return a moment for a message, to the second."""
    return moment.isoformat(timespec="seconds")
