"""What the registry says about who may do what: a full statement first, then what has changed. The messages are those
of AccessService.WatchAccess, whose followers are other services and the registry itself.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from services.common.china_time import day_in_china
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.request import request_context
from services.journal import store as journal_store
from services.journal.limits import TAIL_POLL_SECONDS
from services.journal.store.tail import Tail
from services.registry import convert_access, kinds, store
from services.registry.credentials import ENDED_KEPT
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import CredentialRow
from zhichao.access.v1 import credential_pb2, service_pb2

HEARTBEAT_SECONDS: Final = TAIL_POLL_SECONDS
"""Longest silence towards a follower (the contract says 2 seconds): a fifth of the time in which a revocation is known
everywhere, so that a follower notices a lost registry long before."""

MESSAGE_BYTES: Final = 1 << 20
"""Bytes of items in one message of a statement, and a little more by the last one: a province with three thousand
divisions and as many credentials needs two messages."""


_Item = credential_pb2.Credential | service_pb2.PlatformStanding | service_pb2.DivisionStanding


class AccessStatement:
    """What one follower has been told so far, and what is to be said next."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        # Size of the own log up to which everything has been said, and the day for which places of divisions were.
        self._size = 0
        self._day = ""
        self._placed: dict[str, str] = {}

    def read(self, connection: RawConnection, now: datetime) -> list[service_pb2.WatchAccessResponse]:
        """Return the next messages, at least one; `now` was read before the connection's snapshot was taken.

        The first ones are a full statement. The last one is complete as of `now`. Raises what the database raises; then
        nothing counts as said.
        """
        head = journal_store.read_head(connection, self._origin)
        size = head.size if head else 0
        day = day_in_china(now)
        if size == self._size and day == self._day:
            return _pages([], now, is_restart=False)
        after = self._size
        # Places are those of a day: on another one all are looked at.
        placed = store.placements(connection, self._origin, day, after if day == self._day else 0)
        # That a place was given up cannot be said, and a log that got shorter is that of a restored database.
        is_restart = after == 0 or size < after or any(placed[code] is None for code in placed.keys() & self._placed)
        if is_restart:
            after = 0
            placed = store.placements(connection, self._origin, day)
        known = {} if is_restart else self._placed
        moved = {code: above for code, above in placed.items() if above is not None and known.get(code) != above}
        items: list[_Item] = [
            *(_credential(row) for row in credential_store.stated(connection, self._origin, after, now - ENDED_KEPT)),
            *(_platform(content) for content in store.platforms_after(connection, self._origin, after)),
            *(service_pb2.DivisionStanding(division_code=code, parent_code=above) for code, above in moved.items()),
        ]
        self._size, self._day, self._placed = size, day, known | moved
        return _pages(items, now, is_restart=is_restart)


def _credential(row: CredentialRow) -> credential_pb2.Credential:
    message = credential_pb2.Credential.FromString(row.content)
    message.etag = row.etag
    return message


def _platform(content: bytes) -> service_pb2.PlatformStanding:
    platform = kinds.PLATFORM.parse(content)
    return service_pb2.PlatformStanding(
        platform_code=platform.platform_code,
        upstream_code=platform.upstream_code,
        valid_from=platform.valid_from,
        valid_until=platform.valid_until,
    )


def _pages(items: Sequence[_Item], now: datetime, *, is_restart: bool) -> list[service_pb2.WatchAccessResponse]:
    """Put the items into messages of bounded size; the last one says that everything has been said."""
    pages = [service_pb2.WatchAccessResponse(is_restart=is_restart)]
    filled = 0
    for item in items:
        if filled >= MESSAGE_BYTES:
            pages.append(service_pb2.WatchAccessResponse())
            filled = 0
        match item:
            case credential_pb2.Credential():
                pages[-1].credentials.append(item)
            case service_pb2.PlatformStanding():
                pages[-1].platforms.append(item)
            case service_pb2.DivisionStanding():
                pages[-1].divisions.append(item)
        filled += item.ByteSize()
    pages[-1].is_complete = True
    pages[-1].as_of_time.CopyFrom(convert_access.timestamp(now))
    return pages


class AccessFeed:
    """Says it to followers, as long as they listen."""

    def __init__(self, engine: Engine, origin: str, tail: Tail, clock: Clock) -> None:
        self._engine = engine
        self._origin = origin
        self._tail = tail
        self._clock = clock

    def watch(self) -> Iterator[service_pb2.WatchAccessResponse]:
        """Yield the statement and every change, until the caller leaves or the server stops.

        The database is asked each time: a notification that was lost must not make old knowledge look fresh. Raises
        ServiceError DATABASE_UNAVAILABLE.
        """
        request = request_context()
        request.on_end(self._tail.wake)
        statement = AccessStatement(self._origin)
        while request.is_active():
            seen = self._tail.count(self._origin)
            now = self._clock.now()
            with translate_errors(), reading(self._engine) as pooled:
                said = statement.read(raw_connection(pooled), now)
            yield from said
            self._tail.wait(self._origin, seen, request.is_active)
