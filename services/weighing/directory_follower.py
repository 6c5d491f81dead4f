"""Follows the registry's own log, and what platforms above have addressed, and keeps the directory: in memory for
judging, in tables for a start without the registry.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.common.database import Engine, raw_connection, translate_errors
from services.common.follow_loop import FollowLoop
from services.journal.entries import parse
from services.weighing import convert_directory
from services.weighing.addressed_follower import AddressedFollower
from services.weighing.directory import Directory
from services.weighing.store import directory as store
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

ANSWER_SECONDS_MAX: Final = 1.0
"""Longest wait for the registry's answer; it takes milliseconds, and one that hangs is known by its silence."""

LOOK_AGAIN_SECONDS_MAX: Final = 2.0
"""Longest wait of a record for the directory to catch up with a registration made a moment ago, or with what came down:
twice that, so that a registry that is slow is not taken for one that is away."""

LOOK_AGAIN_INTERVAL_SECONDS: Final = 0.1
"""Shortest time between two looks at the registry on behalf of unknown ids, so that nonsense cannot flood it. Whoever
asks meanwhile waits for the next look and shares it."""

LOOK_AGAIN_PAUSE_SECONDS: Final = 1.0
"""After a look that failed nobody looks for so long: threads must not queue up for a registry that hangs."""

_log = structlog.get_logger()


class DirectoryFollower:
    """Keeps a Directory in step with the registry of this platform. The registry may be away; what is held goes on."""

    def __init__(
        self, engine: Engine, directory: Directory, origin: str, open_registry: Callable[[], grpc.Channel]
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._origin = origin
        self._open_registry = open_registry
        self._position = 0
        self._moved = threading.Condition()
        self._look_began = self._look_ended = 0.0
        self._is_look_good = True
        self._look_guard = threading.Lock()
        self._channel: grpc.Channel | None = None
        self.loop = FollowLoop("directory-follower", self._follow, lambda: self._position)
        self.addressed = AddressedFollower(engine, directory, origin)

    @property
    def position(self) -> int:
        """Last sequence of the registry's log that is known here."""
        return self._position

    def start(self) -> None:
        """Load what is held and start to follow. Raises ServiceError when the database is away."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            self._position = store.read_position(connection, self._origin)
            for kind, payload in store.read_objects(connection):
                self._put(kind, payload)
            self.addressed.load(connection)
        _log.info(
            "directory_loaded",
            position=self._position,
            positions_above=self.addressed.positions,
            **self._directory.counts(),
        )
        self._channel = self._open_registry()
        self.loop.start()
        self.addressed.start(self._channel)

    def stop(self) -> None:
        """Stop following."""
        self.loop.stop()
        self.addressed.stop()
        if self._channel is not None:
            self._channel.close()

    def look_again(self) -> bool:
        """Wait until what the registry holds now is known here. False when the registry does not answer in time."""
        asked = time.monotonic()
        with self._look_guard:
            # A look that began after we asked has seen what we are after; one that failed a moment ago fails again.
            is_paused = not self._is_look_good and asked < self._look_ended + LOOK_AGAIN_PAUSE_SECONDS
            if self._look_began <= asked and not is_paused:
                if self.loop.stopping.wait(max(self._look_began + LOOK_AGAIN_INTERVAL_SECONDS - asked, 0.0)):
                    return False
                self._look_began = time.monotonic()
                self._is_look_good = self._look()
                self._look_ended = time.monotonic()
            return self._is_look_good

    def _look(self) -> bool:
        if self._channel is None:
            return False
        ends_at = time.monotonic() + LOOK_AGAIN_SECONDS_MAX
        stub = journal_pb2_grpc.JournalServiceStub(self._channel)
        try:
            answer = stub.ListPositions(
                journal_pb2.ListPositionsRequest(origin=self._origin), timeout=ANSWER_SECONDS_MAX
            )
        except (grpc.RpcError, ValueError):
            # ValueError is what a channel that was closed at our stop raises.
            return False
        if not self.addressed.look(self._channel, max(ends_at - time.monotonic(), 0.0)):
            return False
        wanted = max((position.size for position in answer.positions), default=0)
        # The registry is there: a follower that pauses after an outage need not pause any longer.
        self.loop.hurry()
        self.addressed.loop.hurry()
        with self._moved:
            return self._moved.wait_for(lambda: self._position >= wanted, max(ends_at - time.monotonic(), 0.0))

    def _follow(self) -> None:
        if self._channel is None:
            return
        stub = journal_pb2_grpc.JournalServiceStub(self._channel)
        request = journal_pb2.ReadEntriesRequest(origin=self._origin, first_sequence=self._position + 1, follow=True)
        call = stub.ReadEntries(request)
        self.loop.hold(call)
        for response in call:
            self._take(response.batch)
            if self.loop.stopping.is_set():
                call.cancel()
                return

    def _take(self, batch: journal_pb2.EntryBatch) -> None:
        changed: list[tuple[str, str, bytes]] = []
        for sequence, content in enumerate(batch.entries, batch.first_sequence):
            entry = parse(content)
            try:
                found = convert_directory.directory_object(entry.kind, entry.payload) if entry else None
            except (DecodeError, ValueError):
                _log.warning("directory_entry_unreadable", sequence=sequence)
                continue
            if entry is not None and found is not None:
                changed.append((entry.kind, found[0], entry.payload))
        last = batch.first_sequence + len(batch.entries) - 1
        with translate_errors(), self._engine.begin() as pooled:
            store.store_objects(raw_connection(pooled), self._origin, last, changed)
        for kind, _, payload in changed:
            self._put(kind, payload)
        with self._moved:
            self._position = last
            self._moved.notify_all()

    def _put(self, kind: str, payload: bytes) -> None:
        """Take an object into the memory. One that this release cannot use is left out: all others must go on."""
        try:
            found = convert_directory.directory_object(kind, payload)
            if found is not None:
                self._directory.put(found[1])
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("directory_object_unusable", kind=kind)
