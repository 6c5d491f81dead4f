"""Follows what platforms above have addressed to this one in the journal of its registry, and keeps it: in memory for
judging, in tables for a start without the registry.
"""

import threading
from collections import Counter
from collections.abc import Iterable

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.follow_loop import FollowLoop
from services.common.refusals import reason_name
from services.journal.addressed_convert import batch_from
from services.journal.store.addressed import AddressedLog
from services.weighing import addressed, convert_directory
from services.weighing.addressed import AddressedRow
from services.weighing.directory import Directory
from services.weighing.store import directory as store
from zhichao.journal.v1 import addressed_pb2, journal_pb2, journal_pb2_grpc

_log = structlog.get_logger()


class AddressedFollower:
    """Keeps the rule sets of platforms above in a Directory. A log that proves nothing is left alone, loudly."""

    def __init__(self, engine: Engine, directory: Directory, platform: str) -> None:
        self._engine = engine
        self._directory = directory
        self._platform = platform
        self._logs: dict[str, AddressedLog] = {}
        # Audience of every entry held, by origin and sequence.
        self._audiences: dict[str, dict[int, str]] = {}
        # The stream and a look on behalf of a record may bring the same at the same time.
        self._guard = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._taken = 0
        # Replaced whole, never changed: figures are read meanwhile.
        self._refused_origins: frozenset[str] = frozenset()
        self.loop = FollowLoop("addressed-follower", self._follow, lambda: self.progress)

    @property
    def progress(self) -> int:
        """How much was taken of what the registry has said; what failed while it was taken does not count."""
        return self._taken

    @property
    def positions(self) -> dict[str, int]:
        """How far the registry logs of platforms above are known here, by origin."""
        return {origin: log.through_sequence for origin, log in sorted(self._logs.items())}

    @property
    def refused_count(self) -> int:
        """How many logs are left alone, because they do not follow from what is held."""
        return len(self._refused_origins)

    def load(self, connection: RawConnection) -> None:
        """Take what is held."""
        self._logs = {log.origin: log for log in store.read_addressed_logs(connection)}
        for row in store.read_addressed_entries(connection):
            self._put(row)

    def start(self, channel: grpc.Channel) -> None:
        """Start to follow the registry at the other end of a channel."""
        self._channel = channel
        self.loop.start()

    def stop(self) -> None:
        """Stop following."""
        self.loop.stop()

    def look(self, channel: grpc.Channel, timeout_seconds: float) -> bool:
        """Take everything that the registry holds now. False when it does not answer in time, or cannot be kept.

        What is refused is not told again: the stream has, and looks are many.
        """
        try:
            self._read(channel, follow=False, timeout_seconds=timeout_seconds)
        except (grpc.RpcError, ServiceError, ValueError):
            # ValueError is what a channel that was closed at our stop raises.
            return False
        except Exception:  # noqa: BLE001 - logged with its traceback
            # A record waits for this, which has nothing to do with the fault.
            _log.exception("addressed_look_failed", positions=self.positions)
            return False
        return True

    def _follow(self) -> None:
        if self._channel is not None:
            self._read(self._channel, follow=True)

    def _read(self, channel: grpc.Channel, *, follow: bool, timeout_seconds: float | None = None) -> None:
        stub = journal_pb2_grpc.JournalServiceStub(channel)
        with self._guard:
            standing = [_position(log, self._audiences.get(log.origin, {}).values()) for log in self._logs.values()]
        request = journal_pb2.ReadAddressedEntriesRequest(platform=self._platform, positions=standing, follow=follow)
        call = stub.ReadAddressedEntries(request, timeout=timeout_seconds)
        if follow:
            self.loop.hold(call)
        refused_origins: set[str] = set()
        for response in call:
            match response.WhichOneof("content"):
                case "batch" if response.batch.origin not in refused_origins:
                    refused = self._take(response.batch)
                    if refused is not None:
                        refused_origins.add(response.batch.origin)
                        if follow:
                            self._refused_origins = self._refused_origins | refused_origins
                            _log_refused(response.batch.origin, refused.reason.value, refused.message)
                case "refusal" if follow:
                    refused_origins.add(response.refusal.origin)
                    self._refused_origins = self._refused_origins | refused_origins
                    refusal = response.refusal.refusal
                    _log_refused(response.refusal.origin, reason_name(refusal.reason), refusal.message)
                case "ends" if follow:
                    # Only now it is known that the others are not refused any more.
                    self._refused_origins = frozenset(refused_origins)
            self._taken += 1
            if self.loop.stopping.is_set():
                call.cancel()
                return

    def _take(self, message: addressed_pb2.AddressedBatch) -> ServiceError | None:
        """Check and keep a batch; why not, when it does not follow from what is held. Raises ServiceError of the
        store.
        """
        origin = message.origin
        with self._guard:
            try:
                taken = addressed.take(batch_from(message), self._logs.get(origin), self._platform)
            except ServiceError as error:
                return error
            held = self._audiences.setdefault(origin, {})
            fresh = [row for row in taken.entries if row.sequence not in held]
            with translate_errors(), self._engine.begin() as pooled:
                store.store_addressed(raw_connection(pooled), taken.log, fresh)
            for row in fresh:
                self._put(row)
            self._logs[origin] = taken.log
        return None

    def _put(self, row: AddressedRow) -> None:
        """Take an entry into the memory. One that this release cannot use is left out: all others must go on."""
        self._audiences.setdefault(row.origin, {})[row.sequence] = row.audience
        try:
            found = convert_directory.addressed_object(row)
            if found is not None:
                self._directory.put(found)
        except DecodeError:
            _log.warning("directory_entry_unreadable", origin=row.origin, sequence=row.sequence)
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("directory_object_unusable", kind=row.kind, origin=row.origin, sequence=row.sequence)


def _position(log: AddressedLog, audiences: Iterable[str]) -> addressed_pb2.AddressedPosition:
    return addressed_pb2.AddressedPosition(
        origin=log.origin,
        stream=addressed.REGISTRY_STREAM,
        through_sequence=log.through_sequence,
        root=log.root,
        audiences=[
            addressed_pb2.AudienceCount(audience=audience, count=count)
            for audience, count in sorted(Counter(audiences).items())
        ],
    )


def _log_refused(origin: str, reason: str, message: str) -> None:
    # What is held of it goes on judging; nothing newer comes before a person has looked.
    _log.error("addressed_entries_refused", origin=origin, reason=reason, message=message)
