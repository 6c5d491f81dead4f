"""What this platform holds of a directive, put together: the directive, what became of it, and its recipients."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from services.common.access.divisions import Divisions
from services.common.access.knowledge import AccessKnowledge
from services.common.database import RawConnection
from services.enforcement import refusals, rules, store
from services.enforcement.audience import line_of
from services.enforcement.kinds import Directive, Kind, Response
from services.enforcement.rules import Counts, Course, Direction, Terms
from services.enforcement.store import Name, ResponseRow, Row
from zhichao.enforcement.v1 import notice_pb2


@dataclass(frozen=True, slots=True)
class Recipient(Generic[Response]):
    """One recipient, with its response if there is one."""

    course: Course
    terms: Terms
    response: Response | None = None
    response_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Held(Generic[Directive, Response]):
    """One directive as held."""

    issuer: str
    sequence: int
    directive: Directive
    direction: Direction
    withdrawal: notice_pb2.NoticeWithdrawal | None
    counts: Counts
    own: Recipient[Response] | None


class Holding:
    """Puts together what is held, as one platform sees it."""

    def __init__(self, own: str, knowledge: AccessKnowledge) -> None:
        self.own = own
        self._knowledge = knowledge

    def divisions(self) -> Divisions:
        """Return which divisions lie below which. Raises ServiceError ACCESS_UNKNOWN before anybody has said so."""
        if not self._knowledge.is_known:
            raise refusals.divisions_unknown()
        return self._knowledge.divisions

    def line(self) -> tuple[str, ...]:
        """Return the own division and those above it."""
        return line_of(self.own, self.divisions())

    def direction(self, row: Row, is_recipient: bool) -> Direction:
        """Return what a directive is to this platform.

        Only what comes from above is received, whatever a platform beside or below writes into a directive.
        """
        if row.issuer == self.own:
            return Direction.ISSUED
        line = self.line()
        is_meant = is_recipient or not set(line).isdisjoint(row.audiences)
        return Direction.RECEIVED if row.issuer in line and is_meant else Direction.OBSERVED

    def platforms_within(self, connection: RawConnection, division_code: str) -> tuple[str, ...] | None:
        """Return the recipients, of whatever directive, within a division; None without one, for all."""
        if not division_code:
            return None
        divisions = self.divisions()
        known = store.recipient_platforms(connection)
        return tuple(platform for platform in known if divisions.is_within(platform, division_code))

    def put_together(
        self,
        connection: RawConnection,
        kind: Kind[Directive, Response],
        rows: Sequence[Row],
        platforms: Sequence[str] | None,
        now: datetime,
    ) -> list[Held[Directive, Response]]:
        """Return directives as held, counting all recipients or certain ones."""
        names = [row.name for row in rows]
        courses = store.read_courses(connection, kind.number, names, None)
        withdrawals = store.read_withdrawals(connection, kind.number, names)
        responses = store.read_responses(connection, kind.number, names, [self.own])
        counted = None if platforms is None else frozenset(platforms)
        held = []
        for row in rows:
            withdrawal = withdrawals.get(row.name)
            terms = Terms(row.issue_time, row.deadline_time, withdrawal is not None)
            own = next((course for course in courses[row.name] if course.platform == self.own), None)
            held.append(
                Held(
                    row.issuer,
                    row.first_sequence,
                    kind.parse(row.content),
                    self.direction(row, own is not None),
                    notice_pb2.NoticeWithdrawal.FromString(withdrawal) if withdrawal is not None else None,
                    rules.count(
                        terms,
                        [one for one in courses[row.name] if counted is None or one.platform in counted],
                        now,
                    ),
                    _recipient(kind, own, terms, responses.get((row.name, self.own))) if own else None,
                )
            )
        return held

    def recipients(
        self, connection: RawConnection, kind: Kind[Directive, Response], row: Row, platforms: Sequence[str]
    ) -> list[Recipient[Response]]:
        """Return recipients of a directive."""
        name = Name(row.issuer, row.directive_id)
        courses = store.read_courses(connection, kind.number, [name], platforms)[name]
        responses = store.read_responses(connection, kind.number, [name], platforms)
        is_withdrawn = bool(store.read_withdrawals(connection, kind.number, [name]))
        terms = Terms(row.issue_time, row.deadline_time, is_withdrawn)
        return [_recipient(kind, course, terms, responses.get((name, course.platform))) for course in courses]


def _recipient(
    kind: Kind[Any, Response], course: Course, terms: Terms, response: ResponseRow | None
) -> Recipient[Response]:
    if response is None:
        return Recipient(course, terms)
    return Recipient(course, terms, kind.parse_response(response.content), response.sequence)
