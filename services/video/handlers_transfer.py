"""The use cases of the relay of this platform: what is wanted from below, bytes that come, bytes that go up."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from services.common.access.divisions import Divisions
from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.forms import bad_fields
from services.common.reasons import Reason
from services.common.request import request_context
from services.video import forms, holding
from services.video import refusals_reading as refusals
from services.video.checking import UNREADABLE_ERRORS, suspect
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.domain import BytesState
from services.video.forms import Violation
from services.video.object_store import ObjectMissingError, ObjectStore, object_key, translate_store_errors
from services.video.outgoing_bytes import FOUND_CHANGED_WHEN_READ, FOUND_MISSING_WHEN_READ
from services.video.read_ahead import BytesChangedError, CheckedChunks, ReadAhead
from services.video.receiving import ObjectReceiver, key_of, named
from services.video.spool import Spool
from services.video.store import objects as object_rows
from services.video.store import wanted as store
from services.video.store.objects import ObjectRow
from services.video.wanted import (
    FRESH_SECONDS,
    Manifest,
    Urgency,
    another_origin,
    next_upstream_wish,
    origins_within,
    retry_time,
    urgency_at,
)
from services.video.wanting import MANIFESTS_MAX, ObjectNews, upstream_wish
from zhichao.video.v1 import transfer_pb2 as pb

LISTED_MAX: Final = 64
"""Objects in one message (the contract): the relay pushes a few at once, and is told more when they are through."""

DECLINED_LISTED_MAX: Final = 8
"""Objects of these at most that were declined before, of those that were asked for and of the others: a look every
0.2 s asks for 40 a second again, which a link with 50 ms each way answers, and what was not declined has the rest."""

LOOK_SECONDS: Final = 1.0
"""How often what is wanted, or has come, is looked up by itself: what another replica did is in the tables only."""

PAUSE_SECONDS: Final = 0.2
"""Least pause between two looks, in which 64 small photos are hardly pushed: each costs some milliseconds."""

COUNT_SECONDS: Final = 5.0
"""How often all that is wanted is counted, for people: 100,000 rows take some 20 ms."""

HELD_MAX: Final = 256
"""Digests in one message (the contract)."""

HELD_ROWS_MAX: Final = 5_000
"""Objects that are looked at at once."""

OVERLAP_SECONDS: Final = 15.0
"""How far back each look goes: clocks of replicas differ, and what is stored first may be committed last."""


class TransferHandlers:
    """The way of bytes between platforms."""

    def __init__(
        self,
        engine: Engine,
        own: str,
        divisions: Callable[[], Divisions],
        custody: CustodyWriter,
        objects: ObjectStore,
        spool: Spool,
        receiver: ObjectReceiver,
        clock: Clock,
        news: ObjectNews,
    ) -> None:
        self._engine = engine
        self._own = own
        self._divisions = divisions
        self._custody = custody
        self._objects = objects
        self._spool = spool
        self._receiver = receiver
        self._clock = clock
        self._news = news

    def watch_wanted(self, request: pb.WatchWantedRequest) -> Iterator[pb.WatchWantedResponse]:
        """Yield what is wanted of a platform below and those below it, whenever that is something else than before.

        Raises ServiceError INVALID_ARGUMENT, DATABASE_UNAVAILABLE.
        """
        self._check_platform(request.platform)
        ended = _end_of_call(self._news)
        before: object = None
        counted_at, counts = 0.0, (0, 0)
        while not ended.is_set():
            seen = self._news.count
            if (now := self._clock.monotonic()) - counted_at >= COUNT_SECONDS or before is None:
                counted_at, counts = now, self._counts(request.platform)
            wanted = self._wanted(request.platform)
            # How much has come of each is no news: whoever sends knows it.
            shown = [(one.object.digest, one.urgency) for one in wanted], counts
            if shown != before:
                before = shown
                yield pb.WatchWantedResponse(wanted=wanted, object_count=counts[0], missing_bytes=counts[1])
            if not ended.wait(PAUSE_SECONDS):
                self._news.wait(seen, LOOK_SECONDS, lambda: not ended.is_set())

    def receive_object(self, requests: Iterator[pb.ReceiveObjectRequest]) -> pb.ReceiveObjectResponse:
        """Take bytes that are wanted. Raises ServiceError as the contract says."""
        return self._receiver.receive(requests)

    def decline_object(self, request: pb.DeclineObjectRequest) -> pb.DeclineObjectResponse:
        """Ask a platform below again later, or elsewhere, or not any more.

        Raises ServiceError INVALID_ARGUMENT, DATABASE_UNAVAILABLE.
        """
        self._check_platform(request.platform, *_digest_violations(request.digest))
        divisions, digest = self._divisions(), request.digest
        is_gone = False
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            row = store.read_wanted(connection, digest, is_locked=True)
            if row is None or row.state not in (BytesState.WANTED, BytesState.DAMAGED):
                return pb.DeclineObjectResponse()
            manifests = [
                Manifest(one.origin, one.kind, one.seal_time, is_suspected=False)
                for one in store.read_manifests(connection, [digest], MANIFESTS_MAX)
            ]
            if not any(divisions.is_within(one.origin, request.platform) for one in manifests):
                return pb.DeclineObjectResponse()
            now = self._clock.now()
            if not request.is_gone:
                count = row.decline_count + 1
                store.put_declined(connection, digest, count, retry_time(count, now))
            elif other := another_origin(
                request.platform, manifests, holding.holders(connection, digest), self._own, divisions
            ):
                store.put_other_origin(connection, digest, other.origin, other.seal_time)
            else:
                store.put_gone(connection, digest)
                is_gone = True
        if is_gone:
            self._spool.forget(key_of(request.platform, digest))
        self._news.tell()
        return pb.DeclineObjectResponse()

    def want_for_upstream(self, request: pb.WantForUpstreamRequest) -> pb.WantForUpstreamResponse:
        """Want from below what the platform above wants and this one does not hold, for some hours.

        Raises ServiceError INVALID_ARGUMENT, DATABASE_UNAVAILABLE.
        """
        if violations := _digest_violations(request.digest):
            raise bad_fields(violations)
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            row = store.lock_upstream_wish(connection, request.digest)
            if row is None or row.state == BytesState.HELD:
                return pb.WantForUpstreamResponse()
            now = self._clock.now()
            # What was given up here is decided again: the relay asks only while a platform below may have it.
            is_given_up = row.state in (BytesState.DELETED, BytesState.GONE)
            known = None if is_given_up else upstream_wish(row.urgency, row.until_time, now)
            if (wish := next_upstream_wish(known, request.urgency, now)) is not None:
                store.put_upstream_wish(connection, request.digest, wish.urgency, wish.until_time)
        return pb.WantForUpstreamResponse()

    def send_object(self, request: pb.SendObjectRequest) -> Iterator[pb.SendObjectResponse]:
        """Yield the bytes of an object from an offset. Raises ServiceError as the contract says."""
        if violations := [*_digest_violations(request.digest), *_offset_violations(request.offset)]:
            raise bad_fields(violations)
        return self._send(request.digest, request.offset)

    def watch_held(self) -> Iterator[pb.WatchHeldResponse]:
        """Yield nothing, then digests as they come to be held, each once or seldom twice.

        Raises ServiceError DATABASE_UNAVAILABLE.
        """
        ended = _end_of_call(self._news)
        # As far back as each look goes.
        named_before = set(self._held())
        yield pb.WatchHeldResponse()
        while not ended.is_set():
            seen = self._news.count
            held = self._held()
            fresh = [digest for digest in held if digest not in named_before]
            named_before = set(held)
            for start in range(0, len(fresh), HELD_MAX):
                yield pb.WatchHeldResponse(digests=fresh[start : start + HELD_MAX])
            if not ended.wait(PAUSE_SECONDS):
                self._news.wait(seen, LOOK_SECONDS, lambda: not ended.is_set())

    # Parts of the above

    def _check_platform(self, platform: str, *violations: Violation) -> None:
        found = list(violations)
        if description := forms.division_code(platform):
            found.append(Violation("platform", description))
        elif platform == self._own or not self._divisions().is_within(platform, self._own):
            found.append(Violation("platform", f"is {platform}, which does not lie below {self._own}"))
        if found:
            raise bad_fields(found)

    def _origins(self, platform: str, origins: list[str]) -> list[str]:
        return origins_within(platform, origins, self._own, self._divisions())

    def _counts(self, platform: str) -> tuple[int, int]:
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            return store.count_wanted(connection, self._origins(platform, store.list_origins(connection)))

    def _wanted(self, platform: str) -> list[pb.WantedObject]:
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            origins = self._origins(platform, store.list_origins(connection))
            rows = (
                store.list_wanted(
                    connection,
                    origins,
                    now - timedelta(seconds=FRESH_SECONDS),
                    now,
                    LISTED_MAX,
                    DECLINED_LISTED_MAX,
                )
                if origins
                else []
            )
        wanted = []
        for row in rows:
            spooled = self._spool.find(key_of(platform, row.digest))
            urgency = urgency_at(Urgency(row.urgency), row.seal_time, now)
            wanted.append(
                pb.WantedObject(
                    object=pb.TransferObject(digest=row.digest, size_bytes=row.size_bytes),
                    received_bytes=spooled.received_bytes if spooled is not None else 0,
                    urgency=pb.TransferUrgency.ValueType(urgency),
                )
            )
        return wanted

    def _held(self) -> list[bytes]:
        since = self._clock.now() - timedelta(seconds=OVERLAP_SECONDS)
        with translate_errors(), reading(self._engine) as pooled:
            return store.list_held_since(raw_connection(pooled), since, HELD_ROWS_MAX)

    def _send(self, digest: bytes, offset: int) -> Generator[pb.SendObjectResponse, None, None]:
        row = self._find(digest)
        self._refuse_away(digest, row)
        size_bytes = row.size_bytes if row is not None else 0
        if offset > size_bytes:
            raise refusals.beyond_end(offset, size_bytes)
        if offset == size_bytes:
            return
        # Of a part nothing can be said by the digest of the whole: whoever has all of it compares.
        whole = digest if offset == 0 else None
        with self._damage_told(digest), translate_store_errors():
            reader = self._objects.read(object_key(digest), offset)
            if reader.size_bytes != size_bytes:
                reader.close()
                raise BytesChangedError(f"the object has {reader.size_bytes} bytes")
            with ReadAhead(CheckedChunks(reader, size_bytes - offset, whole)) as chunks:
                for chunk in chunks:
                    yield pb.SendObjectResponse(chunk=chunk)

    def _find(self, digest: bytes) -> ObjectRow | None:
        with translate_errors(), reading(self._engine) as pooled:
            return object_rows.read_object(raw_connection(pooled), digest)

    @contextmanager
    def _damage_told(self, digest: bytes) -> Iterator[None]:
        """Write down that the store has lost or changed bytes, once, and refuse the call for it."""
        try:
            yield
        except BytesChangedError as error:
            raise self._damaged(digest, CustodyAction.FOUND_CHANGED, FOUND_CHANGED_WHEN_READ) from error
        except ServiceError as error:
            if isinstance(error.__cause__, UNREADABLE_ERRORS):
                suspect(self._engine, digest, self._clock.now())
            if not isinstance(error.__cause__, ObjectMissingError):
                raise
            with translate_store_errors():
                # Of the right store: one that was named by mistake has none of these objects.
                self._objects.check()
            raise self._damaged(digest, CustodyAction.FOUND_MISSING, FOUND_MISSING_WHEN_READ) from error

    def _damaged(self, digest: bytes, action: CustodyAction, how: str) -> ServiceError:
        self._custody.found_damaged(digest, action, how)
        try:
            self._refuse_away(digest, self._find(digest))
        except ServiceError as error:
            return error
        # Somebody has just put it right: it is read again.
        return _not_here(digest)

    def _refuse_away(self, digest: bytes, row: ObjectRow | None) -> None:
        """Refuse bytes that are not in the store here, and say whether they may come."""
        if row is not None and row.state == BytesState.HELD:
            return
        if row is None or row.state in (BytesState.BELOW, BytesState.WANTED):
            raise _not_here(digest)
        # Damaged, deleted or given up here: it may come again from a platform below that still has it.
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            may_come = holding.is_held_elsewhere(connection, digest, self._own)
            evidence = named(connection, digest)
        if may_come or evidence is None:
            raise _not_here(digest)
        if row.state == BytesState.DELETED:
            raise refusals.expired(evidence.name, None)
        raise refusals.damaged(CustodyAction.FOUND_MISSING, digest)


def _end_of_call(news: ObjectNews) -> threading.Event:
    """Return what is set when the call ends; whoever waits for news is woken then."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        news.wake()

    request_context().on_end(end)
    return ended


def _digest_violations(digest: bytes) -> list[Violation]:
    description = forms.digest(digest)
    return [Violation("digest", description)] if description else []


def _offset_violations(offset: int) -> list[Violation]:
    return [Violation("offset", f"is {offset}, but must not be below 0")] if offset < 0 else []


def _not_here(digest: bytes) -> ServiceError:
    return ServiceError(
        Reason.BYTES_NOT_HERE,
        f"the bytes {digest.hex()} are not on this platform now",
        message_zh=f"文件 {digest.hex()} 暂不在本平台",
        metadata={"origin": ""},
    )
