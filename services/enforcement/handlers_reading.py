"""The use cases of whoever looks: one directive, lists of them, their recipients, and what comes in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.forms import described
from services.common.paging import Page, decode_token, encode_token, filter_digest, key_time, page_size, time_key
from services.common.request import request_context
from services.enforcement import forms, kinds, refusals, store
from services.enforcement.forms import Violation
from services.enforcement.holding import Held, Holding, Recipient
from services.enforcement.kinds import Directive, Kind, Response
from services.enforcement.limits import (
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    WATCH_CHANGES_MAX,
    WATCH_CHANGES_SCANNED_MAX,
)
from services.enforcement.rules import Direction, Standing
from services.enforcement.store import ChangeRow, DirectiveFilter, Name, Row
from services.journal.store.tail import Tail


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list asks for. Empty fields and zeros do not narrow."""

    direction: int = 0
    standing: int = 0
    issuer: str = ""
    subkind: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    division_code: str = ""

    def violations(self) -> list[Violation]:
        """Return every bad field, named as in the request."""
        checked = [
            ("filter.direction", _unknown(self.direction, Direction)),
            ("filter.standing", _unknown(self.standing, Standing)),
            ("filter.issuer", forms.division_code(self.issuer) if self.issuer else ""),
            ("division_code", forms.division_code(self.division_code) if self.division_code else ""),
        ]
        return described(checked)


@dataclass(frozen=True, slots=True)
class SeenChange:
    """A change with the directive as it stands."""

    row: ChangeRow
    held: Held[Any, Any]


class ReadingHandlers:
    """What is shown. Reading changes nothing."""

    def __init__(self, engine: Engine, holding: Holding, tail: Tail, clock: Clock) -> None:
        self._engine = engine
        self._holding = holding
        self._tail = tail
        self._clock = clock

    def get(
        self, kind: Kind[Directive, Response], issuer: str, directive_id: str, division_code: str
    ) -> Held[Directive, Response]:
        """Return one directive. Raises ServiceError INVALID_ARGUMENT, NOT_FOUND."""
        name = self._name(kind, issuer, directive_id, division_code)
        with self._reading() as connection:
            platforms = self._holding.platforms_within(connection, division_code)
            row = self._find(connection, kind, name, platforms)
            return self._holding.put_together(connection, kind, [row], platforms, self._clock.now())[0]

    def list_directives(
        self, kind: Kind[Directive, Response], wanted: Wanted, requested: int, token: str
    ) -> Page[Held[Directive, Response]]:
        """Return one page, the newest issue first. Raises ServiceError INVALID_ARGUMENT, INVALID_PAGE_TOKEN."""
        if violations := wanted.violations():
            raise refusals.bad_fields(violations)
        size = page_size(requested, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest(
            kind.directive_type,
            wanted.direction,
            wanted.standing,
            wanted.issuer,
            wanted.subkind,
            str(wanted.start_time),
            str(wanted.end_time),
            wanted.division_code,
        )
        key = decode_token(token, digest, (int, str, str))
        after = (key_time(key[0]), str(key[1]), str(key[2])) if key else None
        now = self._clock.now()
        with self._reading() as connection:
            platforms = self._holding.platforms_within(connection, wanted.division_code)
            narrow = DirectiveFilter(
                kind.number,
                self._holding.own,
                self._holding.line(),
                now,
                wanted.direction,
                wanted.standing,
                wanted.issuer,
                wanted.subkind,
                wanted.start_time,
                wanted.end_time,
                platforms,
            )
            rows = store.list_directives(connection, narrow, after, size + 1)
            items = self._holding.put_together(connection, kind, rows[:size], platforms, now)
        return Page(items, _token_after(digest, rows[size - 1]) if len(rows) > size else "")

    def list_recipients(
        self,
        kind: Kind[Directive, Response],
        issuer: str,
        directive_id: str,
        division_code: str,
        requested: int,
        token: str,
    ) -> Page[Recipient[Response]]:
        """Return one page by platform code. Raises ServiceError INVALID_ARGUMENT, INVALID_PAGE_TOKEN, NOT_FOUND."""
        name = self._name(kind, issuer, directive_id, division_code)
        size = page_size(requested, PAGE_SIZE_MAX, PAGE_SIZE_MAX)
        digest = filter_digest(f"{kind.directive_type}_recipients", *name, division_code)
        key = decode_token(token, digest, (str,))
        with self._reading() as connection:
            platforms = self._holding.platforms_within(connection, division_code)
            row = self._find(connection, kind, name, platforms)
            after_platform = str(key[0]) if key else ""
            found = store.read_recipients(connection, kind.number, name, platforms, after_platform, size + 1)
            items = self._holding.recipients(connection, kind, row, found[:size])
        return Page(items, encode_token(digest, (found[size - 1],)) if len(found) > size else "")

    def watch_inbox(
        self, after_position: int | None, direction: int, division_code: str
    ) -> Iterator[tuple[list[SeenChange], int]]:
        """Yield what comes in with the position to go on from; the first time at once.

        Raises ServiceError INVALID_ARGUMENT, BEYOND_LOG for a position that does not exist.
        """
        violations = Wanted(direction, division_code=division_code).violations()
        if after_position is not None and after_position < 0:
            violations.append(Violation("after_position", f"is {after_position}, but positions are not negative"))
        if violations:
            # The direction is a field of the request itself here.
            raise refusals.bad_fields([one._replace(field=one.field.removeprefix("filter.")) for one in violations])
        request = request_context()
        request.on_end(self._tail.wake)
        with self._reading() as connection:
            newest = store.newest_position(connection)
        if after_position is None:
            after_position = newest
        elif after_position > newest:
            raise refusals.beyond_inbox(after_position, newest)
        is_first = True
        while request.is_active():
            seen = self._tail.count(None)
            with self._reading() as connection:
                changes = store.read_changes(connection, after_position, WATCH_CHANGES_SCANNED_MAX)
                shown, last = self._shown(connection, changes, direction, division_code)
            if last is None and not is_first:
                self._tail.wait(None, seen, request.is_active)
                continue
            after_position = after_position if last is None else last
            if shown or is_first:
                yield shown, after_position
            is_first = False

    # Parts of the above

    @contextmanager
    def _reading(self) -> Iterator[RawConnection]:
        with translate_errors(), reading(self._engine) as pooled:
            yield raw_connection(pooled)

    def _name(self, kind: Kind[Any, Any], issuer: str, directive_id: str, division_code: str) -> Name:
        checked = [
            ("issuer", forms.division_code(issuer) if issuer else ""),
            (kind.id_field, forms.directive_id(directive_id)),
            ("division_code", forms.division_code(division_code) if division_code else ""),
        ]
        violations = described(checked)
        if violations:
            raise refusals.bad_fields(violations)
        return Name(issuer or self._holding.own, directive_id)

    def _find(
        self, connection: RawConnection, kind: Kind[Any, Any], name: Name, platforms: Sequence[str] | None
    ) -> Row:
        row = store.read_directive(connection, kind.number, name)
        if row is None or (
            platforms is not None and not store.read_recipients(connection, kind.number, name, platforms, "", 1)
        ):
            raise refusals.not_found(kind, name)
        return row

    def _shown(
        self, connection: RawConnection, changes: Sequence[ChangeRow], direction: int, division_code: str
    ) -> tuple[list[SeenChange], int | None]:
        """Return the changes that pass, at most so many as one message takes, and the position of the last seen."""
        platforms = self._holding.platforms_within(connection, division_code) if changes else None
        now = self._clock.now()
        shown: list[SeenChange] = []
        last = None
        found: dict[tuple[int, Name], Held[Any, Any] | None] = {}
        for change in changes:
            key = (change.kind, Name(change.issuer, change.directive_id))
            if key not in found:
                if len(found) == WATCH_CHANGES_MAX:
                    break
                found[key] = self._passing(connection, key, platforms, direction, now)
            if len(shown) == WATCH_CHANGES_MAX:
                break
            held = found[key]
            if held is not None:
                shown.append(SeenChange(change, held))
            last = change.position
        return shown, last

    def _passing(
        self,
        connection: RawConnection,
        key: tuple[int, Name],
        platforms: Sequence[str] | None,
        direction: int,
        now: datetime,
    ) -> Held[Any, Any] | None:
        """Return the directive of a change as it stands, or None when it is not held or not asked for."""
        number, name = key
        kind = kinds.BY_NUMBER[number]
        row = store.read_directive(connection, number, name)
        if row is None:
            return None
        (held,) = self._holding.put_together(connection, kind, [row], platforms, now)
        is_within = platforms is None or held.counts.recipients > 0
        return held if is_within and direction in (0, held.direction) else None


def _unknown(value: int, numbers: type[Direction] | type[Standing]) -> str:
    if value in {0, *numbers}:
        return ""
    return f"is {value}, but must be one of {', '.join(f'{one.value} ({one.name})' for one in numbers)}, or 0 for any"


def _token_after(digest: str, row: Row) -> str:
    return encode_token(digest, (time_key(row.issue_time), row.issuer, row.directive_id))
