"""Follows the journals of the weighing service of this platform – its own and those that come up from platforms below –
and keeps which weighings are suspected overloads: those need evidence.

The weighing service may be away, or restored from a backup with another history than the one that was read: then that
log is read again. Replicas of the video service share the positions, and so the work.
"""

import time
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.follow_loop import FollowLoop
from services.common.rpc_client import service_error
from services.journal.notes import SignedCheckpoint
from services.video.store import weighings as store
from services.video.store.weighings import UNREAD, ReadLog
from services.video.suspected import WEIGHING_SCHEMA, find_suspected
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

TURN_BATCHES_MAX: Final = 64
"""Batches read of one log before the others have their turn: some seconds, so that a back-fill of millions does not
keep the fresh weighings of other platforms waiting."""

REFUSED_PAUSE_SECONDS: Final = 30.0
"""How long a log that could not be read is left alone: a busy one changes ten times a second, and somebody has to
repair it first."""

PROOF_SECONDS_MAX: Final = 10.0
"""Longest wait for the root that a log had at some size: it takes milliseconds."""

_log = structlog.get_logger()


class WeighingFollower:
    """Keeps the suspected overloads of every weighing journal held on this platform."""

    def __init__(self, engine: Engine, open_weighing: Callable[[], grpc.Channel]) -> None:
        self._engine = engine
        self._open_weighing = open_weighing
        self._channel: grpc.Channel | None = None
        # How far each log was read, and where the weighing service says it stands. Read by figures meanwhile: values
        # are replaced, never changed.
        self._logs: dict[str, ReadLog] = {}
        self._standing: dict[str, journal_pb2.Position] = {}
        # Logs whose history was compared with what was read, since the weighing service was reached.
        self._confirmed: set[str] = set()
        # Logs that could not be read, and when they are tried again.
        self._left_alone: dict[str, float] = {}
        self._taken = 0
        self.is_following = False
        """Whether the weighing service is reached."""
        self.loop = FollowLoop("weighing-follower", self._follow, lambda: self._taken)

    @property
    def positions(self) -> dict[str, int]:
        """How far each log was read, by origin."""
        return {origin: log.position for origin, log in list(self._logs.items())}

    @property
    def behind_entries(self) -> int:
        """Entries of all logs that are not read yet, as far as the weighing service has said."""
        read = self.positions
        return sum(max(there.size - read.get(origin, 0), 0) for origin, there in list(self._standing.items()))

    def start(self) -> None:
        """Start to follow. Never fails: a weighing service or a database that is away is waited for."""
        self._channel = self._open_weighing()
        self.loop.start()

    def stop(self) -> None:
        """Stop following."""
        self.loop.stop()
        if self._channel is not None:
            self._channel.close()

    def _follow(self) -> None:
        if self._channel is None:
            return
        stub = journal_pb2_grpc.JournalServiceStub(self._channel)
        # Whoever answers now may have been restored from a backup; and another replica may have read on.
        self._confirmed.clear()
        self._left_alone.clear()
        with translate_errors(), self._engine.begin() as pooled:
            self._logs = store.read_logs(raw_connection(pooled))
        watch = stub.WatchPositions(journal_pb2.WatchPositionsRequest())
        self.loop.hold(watch)
        try:
            for message in watch:
                self.is_following = True
                self._standing |= {position.origin: position for position in message.positions}
                self._catch_up(stub, {position.origin for position in message.positions})
                self._taken += 1
                if self.loop.stopping.is_set():
                    return
                # Reading has held calls of its own.
                self.loop.hold(watch)
        finally:
            self.is_following = False
            watch.cancel()

    def _catch_up(self, stub: journal_pb2_grpc.JournalServiceStub, origins: set[str]) -> None:
        """Read logs to where they are known to stand, in turns."""
        now = time.monotonic()
        due = {origin for origin, again_at in self._left_alone.items() if again_at <= now}
        for origin in due:
            del self._left_alone[origin]
        waiting = sorted((origins | due) - self._left_alone.keys())
        while waiting and not self.loop.stopping.is_set():
            waiting = [origin for origin in waiting if self._take_turn(stub, origin)]

    def _take_turn(self, stub: journal_pb2_grpc.JournalServiceStub, origin: str) -> bool:
        """Read some of a log; tell whether there is more.

        What is wrong with one log holds up no other: it is left alone for a while. Raises what is wrong with the
        weighing service or the database.
        """
        try:
            self._read_on_from_passed(origin)
            return self._confirm(stub, origin) and self._read(stub, origin)
        except grpc.RpcError as error:
            refusal = service_error(error)
            if refusal.is_retryable or self.loop.stopping.is_set():
                raise
            _log.warning("weighing_log_refused", origin=origin, reason=refusal.reason.value, detail=refusal.message)
        except ServiceError:
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("weighing_log_failed", origin=origin, position=self._log_of(origin).position)
        self._left_alone[origin] = time.monotonic() + REFUSED_PAUSE_SECONDS
        return False

    def _log_of(self, origin: str) -> ReadLog:
        return self._logs.get(origin, UNREAD)

    def _read_on_from_passed(self, origin: str) -> None:
        """Go back to weighings that an older release of this service could not read, if this one can."""
        log = self._log_of(origin)
        if log.passed_sequence is None or log.passed_schema is None or log.passed_schema > WEIGHING_SCHEMA:
            return
        with translate_errors(), self._engine.begin() as pooled:
            self._logs[origin] = store.read_again(raw_connection(pooled), origin, log, log.passed_sequence)
        _log.info("weighing_log_read_again", origin=origin, sequence=log.passed_sequence, schema=log.passed_schema)

    def _confirm(self, stub: journal_pb2_grpc.JournalServiceStub, origin: str) -> bool:
        """Tell whether a log may be read on: it holds what was read of it. One of another history is begun again."""
        log, there = self._log_of(origin), self._standing[origin]
        if origin in self._confirmed:
            return True
        # A log of ours that is shorter was restored and will not grow to what was read; a copy of another one does.
        if there.is_recovering or (there.size < log.position and not there.is_own):
            return False
        if log.root and self._root(stub, there, log.position) != log.root:
            with translate_errors(), self._engine.begin() as pooled:
                self._logs[origin] = store.begin_again(raw_connection(pooled), origin, log, there.size)
            _log.warning("weighing_log_begun_again", origin=origin, position=log.position, size=there.size)
        self._confirmed.add(origin)
        return True

    def _root(self, stub: journal_pb2_grpc.JournalServiceStub, there: journal_pb2.Position, size: int) -> bytes:
        """Return the root that a log had at a size; empty when it is not that long."""
        if there.size <= size:
            return there.root if there.size == size else b""
        request = journal_pb2.GetConsistencyProofRequest(origin=there.origin, first_size=size, second_size=there.size)
        return stub.GetConsistencyProof(request, timeout=PROOF_SECONDS_MAX).first_root

    def _read(self, stub: journal_pb2_grpc.JournalServiceStub, origin: str) -> bool:
        """Read on, some batches at most; tell whether there is more."""
        if self._log_of(origin).position >= self._standing[origin].size:
            return False
        request = journal_pb2.ReadEntriesRequest(origin=origin, first_sequence=self._log_of(origin).position + 1)
        call = stub.ReadEntries(request)
        self.loop.hold(call)
        try:
            for number, response in enumerate(call, 1):
                if not self._take(response.batch) or number == TURN_BATCHES_MAX or self.loop.stopping.is_set():
                    break
        finally:
            call.cancel()
        return self._log_of(origin).position < self._standing[origin].size

    def _take(self, batch: journal_pb2.EntryBatch) -> bool:
        """Keep a batch; tell whether the next one follows it here."""
        origin, before = batch.origin, self._log_of(batch.origin)
        found = find_suspected(batch.first_sequence, batch.entries)
        after = ReadLog(
            batch.first_sequence + len(batch.entries) - 1, SignedCheckpoint.parse(batch.checkpoint).checkpoint.root
        )
        if found.passed is not None:
            after = after._replace(passed_sequence=found.passed.sequence, passed_schema=found.passed.schema)
        with translate_errors(), self._engine.begin() as pooled:
            kept = store.keep_batch(raw_connection(pooled), origin, before, after, found.suspected)
        self._logs[origin] = kept
        if kept.position != after.position:
            # Another replica was first, or has begun the log again: on from where it stands.
            return False
        is_passed_first = found.passed is not None and before.passed_sequence is None
        if found.unreadable_count or is_passed_first:
            _log.warning(
                "weighings_not_read",
                origin=origin,
                first_sequence=batch.first_sequence,
                unreadable=found.unreadable_count,
                newer_schema=found.passed.schema if found.passed else None,
            )
        return True
