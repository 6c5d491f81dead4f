"""Follows the journals of the weighing service of this platform – its own and those that come up from platforms below –
and keeps which weighings are suspected overloads: those need evidence.

The weighing service may be away, or restored from a backup with another history than the one that was read: then that
log is read again. Replicas of the video service share the positions, and so the work.
"""

import threading
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

READ_INTERVAL_SECONDS: Final = 1.0
"""Pause after everything was read: a province's 140 logs that all grow cost as many reads and commits a second, and not
ten times as many. Nobody waits for completeness by the second."""

REFUSED_PAUSE_SECONDS: Final = 30.0
"""How long a log that could not be read is left alone: a busy one changes ten times a second, and somebody has to
repair it first."""

PROOF_SECONDS_MAX: Final = 10.0
"""Longest wait for the root that a log had at some size: it takes milliseconds."""

_log = structlog.get_logger()


class WeighingFollower:
    """Keeps the suspected overloads of every weighing journal held on this platform.

    One thread watches where the journals stand, another one reads them.
    """

    def __init__(self, engine: Engine, open_weighing: Callable[[], grpc.Channel]) -> None:
        self._engine = engine
        self._open_weighing = open_weighing
        self._channel: grpc.Channel | None = None
        # Where the weighing service says that each log stands, and how far it was read. Figures are read meanwhile:
        # values are replaced, never changed.
        self._standing: dict[str, journal_pb2.Position] = {}
        self._logs: dict[str, ReadLog] = {}
        # Logs whose history was compared with what was read, since the weighing service was reached.
        self._confirmed: set[str] = set()
        # Logs that could not be read, and when they are tried again.
        self._left_alone: dict[str, float] = {}
        # How often the weighing service was reached, and at which of these times the reader has begun anew.
        self._reached = 0
        self._begun = 0
        self._taken = 0
        self._news = threading.Event()
        self.is_following = False
        """Whether the weighing service is reached."""
        self._watching = FollowLoop("weighing-watch", self._watch, lambda: self._reached)
        self._reading = FollowLoop("weighing-follower", self._read_on, lambda: self._taken)

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
        self._watching.start()
        self._reading.start()

    def stop(self) -> None:
        """Stop following."""
        self._reading.stopping.set()
        self._news.set()
        self._watching.stop()
        self._reading.stop()
        if self._channel is not None:
            self._channel.close()

    # The one thread

    def _watch(self) -> None:
        if self._channel is None:
            return
        stub = journal_pb2_grpc.JournalServiceStub(self._channel)
        call = stub.WatchPositions(journal_pb2.WatchPositionsRequest())
        self._watching.hold(call)
        try:
            for message in call:
                standing = {position.origin: position for position in message.positions}
                if not self.is_following:
                    # All logs stand in the first message.
                    self._standing = standing
                    self._reached += 1
                    self.is_following = True
                    self._reading.hurry()
                else:
                    self._standing = self._standing | standing
                self._news.set()
                if self._watching.stopping.is_set():
                    return
        finally:
            self.is_following = False
            call.cancel()

    # The other one

    def _read_on(self) -> None:
        """Read what is behind, again and again, until the weighing service or the database is away."""
        if self._channel is None:
            return
        stub = journal_pb2_grpc.JournalServiceStub(self._channel)
        while not self._reading.stopping.is_set():
            self._news.clear()
            if self.is_following and self._read_all(stub):
                continue
            # All that comes meanwhile is read together.
            self._reading.stopping.wait(READ_INTERVAL_SECONDS)
            self._news.wait(REFUSED_PAUSE_SECONDS)

    def _read_all(self, stub: journal_pb2_grpc.JournalServiceStub) -> bool:
        """Let every log that is behind have its turn; tell whether one is behind still."""
        if self._begun != self._reached:
            reached = self._reached
            # Whoever answers now may have been restored from a backup; and another replica may have read on.
            with translate_errors(), self._engine.begin() as pooled:
                self._logs = store.read_logs(raw_connection(pooled))
            self._confirmed.clear()
            self._left_alone.clear()
            self._begun = reached
        now = time.monotonic()
        self._left_alone = {origin: again_at for origin, again_at in self._left_alone.items() if again_at > now}
        has_more = False
        for origin, there in sorted(self._standing.items()):
            is_behind = there.size > self._log_of(origin).position or origin not in self._confirmed
            if is_behind and origin not in self._left_alone and not self._reading.stopping.is_set():
                has_more |= self._take_turn(stub, there)
        return has_more

    def _take_turn(self, stub: journal_pb2_grpc.JournalServiceStub, there: journal_pb2.Position) -> bool:
        """Read some of a log; tell whether there is more.

        What is wrong with one log holds up no other: it is left alone for a while. Raises what is wrong with the
        weighing service or the database.
        """
        origin = there.origin
        try:
            self._read_on_from_passed(origin)
            return self._confirm(stub, there) and self._read(stub, there)
        except grpc.RpcError as error:
            refusal = service_error(error)
            if refusal.is_retryable or self._reading.stopping.is_set():
                # Whoever answers next may be another one.
                self._confirmed.clear()
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

    def _confirm(self, stub: journal_pb2_grpc.JournalServiceStub, there: journal_pb2.Position) -> bool:
        """Tell whether a log may be read on: it holds what was read of it. One of another history is begun again."""
        origin = there.origin
        log = self._log_of(origin)
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

    def _read(self, stub: journal_pb2_grpc.JournalServiceStub, there: journal_pb2.Position) -> bool:
        """Read on, some batches at most; tell whether there is more."""
        origin = there.origin
        before = self._log_of(origin).position
        if before >= there.size:
            return False
        request = journal_pb2.ReadEntriesRequest(origin=origin, first_sequence=before + 1)
        call = stub.ReadEntries(request)
        self._reading.hold(call)
        try:
            for number, response in enumerate(call, 1):
                if not self._take(response.batch) or number == TURN_BATCHES_MAX or self._reading.stopping.is_set():
                    break
        finally:
            call.cancel()
        # One that brings nothing is not asked again at once.
        return before < self._log_of(origin).position < there.size

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
        self._taken += 1
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
