"""Writes the own log: begins it, and appends entries in the caller's transaction so that tables and journal change
together.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import entries, store
from services.journal.addressed_steps import AddressedPlace
from services.journal.digests import Digester
from services.journal.entries import NewEntry, Place
from services.journal.limits import ENTRY_BYTES_MAX, RECOVERING_RETRY_SECONDS
from services.journal.notes import Signer
from services.journal.store import addressed
from services.journal.tracing import committed
from zhichao.journal.v1 import entry_pb2


class LogIdentityError(Exception):
    """The database holds a log of another platform, service, key or digest algorithm than configured.

    The service must not start.
    """


@dataclass(frozen=True, slots=True)
class PlannedAppend:
    """Entries with everything computed that follows from the head they are to be appended to."""

    base: store.LogHead
    packed: store.PackedEntries
    growth: store.Growth
    addressed: Sequence[AddressedPlace] = ()
    """The entries with an audience."""


class LogWriter:
    """The own log of one service: `stream` of platform `origin`, signed with the platform's key."""

    def __init__(self, origin: str, stream: str, signer: Signer, digest_algorithm: str) -> None:
        self.origin = origin
        self.stream = stream
        self.signer = signer
        self.digester = Digester(digest_algorithm)

    def begin(self, connection: RawConnection, now: datetime, *, is_recovering: bool = False) -> None:
        """Make sure that the own log exists and is ours: entry 1 names its key and algorithm. Called at every start.

        With `is_recovering` the database was restored from a backup: nothing is written to the log, not even entry 1 of
        a new one, until `OwnLogRestorer.confirm`. Raises LogIdentityError when the database was begun by another
        platform or service, or with another key or algorithm.
        """
        verifier_key = self.signer.verifier_key.format()
        own = store.read_own_head(connection)
        if own is None:
            store.create_log(connection, self.origin, True, self.digester.algorithm, verifier_key)
            own = store.lock_head(connection, self.origin)
            if own is None:
                # Another platform has just begun its log in the same database.
                own = store.read_own_head(connection)
        if own is None or own.origin != self.origin:
            held = own.origin if own else "another platform"
            raise LogIdentityError(
                f"this database holds the {self.stream} log of platform {held}, not of {self.origin}: "
                "give each platform a database of its own"
            )
        if not own.is_own:
            raise LogIdentityError(
                f"this database holds a copy of the {self.stream} log of {self.origin}, as an upper platform does: "
                "give each platform a database of its own"
            )
        if own.verifier_key != verifier_key:
            raise LogIdentityError(
                f"the {self.stream} log of {self.origin} was begun with the key {own.verifier_key}, "
                f"the key file holds {verifier_key}: restore the key file of this database"
            )
        if own.digest_algorithm != self.digester.algorithm:
            raise LogIdentityError(
                f"the {self.stream} log of {self.origin} uses {own.digest_algorithm}, "
                f"not {self.digester.algorithm}: set ZHICHAO_JOURNAL_DIGEST={own.digest_algorithm}"
            )
        if is_recovering and not own.is_recovering:
            store.set_recovering(connection, self.origin, is_recovering=True)
        if own.size:
            self._check_stream(connection)
        elif not (is_recovering or own.is_recovering):
            self.write_start(connection, now)

    def write_start(self, connection: RawConnection, now: datetime) -> None:
        """Write entry 1 if the log is empty. Raises ServiceError(RECOVERING)."""
        start = entry_pb2.LogStart(
            origin=self.origin,
            stream=self.stream,
            digest_algorithm=self.digester.algorithm,
            verifier_key=self.signer.verifier_key.format(),
        )
        builder = entries.EntryBuilder(entries.LOG_START_KIND, 1, now)
        head = self.lock(connection)
        if head.size == 0:
            self.append(connection, head, [builder.build(start.SerializeToString(), self.digester)], now)

    def _check_stream(self, connection: RawConnection) -> None:
        held, _ = store.read_entries(connection, self.origin, 1, 1)
        start = entries.parse_log_start(held[0]) if held else None
        if start is None or start.stream != self.stream:
            raise LogIdentityError(
                f"this database holds the {start.stream if start else 'unreadable'} log of {self.origin}, "
                f"not the {self.stream} log: give each service a database of its own"
            )

    def lock(self, connection: RawConnection) -> store.LogHead:
        """Return the head of the own log, held until the transaction ends, to write after it.

        Raises ServiceError(RECOVERING) while the log may be behind what the platform above holds of it: what was
        written now could take places that are taken there.
        """
        head = self.lock_any(connection)
        if head.is_recovering:
            raise ServiceError(
                Reason.RECOVERING,
                f"the {self.stream} service of {self.origin} was restored from a backup and writes nothing before it "
                "was compared with the platform above (zhichao relay status)",
                message_zh=f"{self.origin} 的 {self.stream} 服务由备份恢复，与上级平台核对完成前暂不写入",
                metadata={"stream": self.stream},
                retry_after_seconds=RECOVERING_RETRY_SECONDS,
            )
        return head

    def lock_any(self, connection: RawConnection) -> store.LogHead:
        """Return the head of the own log, held until the transaction ends, whether or not it may be written to."""
        head = store.lock_head(connection, self.origin)
        if head is None:
            raise LogIdentityError(f"the {self.stream} log of {self.origin} has not been begun")
        return head

    def read(self, connection: RawConnection) -> store.LogHead:
        """Return the head of the own log as last committed; it may be overtaken at once."""
        head = store.read_head(connection, self.origin)
        if head is None:
            raise LogIdentityError(f"the {self.stream} log of {self.origin} has not been begun")
        return head

    def plan(
        self,
        head: store.LogHead,
        entries: Sequence[bytes],
        leaves: Sequence[bytes],
        write_time: datetime,
        audiences: Mapping[int, str] = MappingProxyType({}),
    ) -> PlannedAppend:
        """Compute everything that appending entries with these leaf digests after this head needs.

        `audiences` names those of the entries that have one, by index: only what is named there goes down. Pure; the
        head may be one still to be written.

        Raises ServiceError(ENTRY_TOO_LARGE) for an entry over the limit.
        """
        largest = max(map(len, entries), default=0)
        if largest > ENTRY_BYTES_MAX:
            raise ServiceError(
                Reason.ENTRY_TOO_LARGE,
                f"an entry has {largest} bytes, more than {ENTRY_BYTES_MAX}",
                metadata={"limit": str(ENTRY_BYTES_MAX), "actual": str(largest)},
            )
        growth = store.grow(head, self.digester, entries, leaves, write_time)
        places = [
            AddressedPlace(head.size + 1 + index, audience, len(entries[index]))
            for index, audience in sorted(audiences.items())
        ]
        return PlannedAppend(head, store.pack_entries(self.origin, head.size + 1, entries, leaves), growth, places)

    def write(self, connection: RawConnection, planned: PlannedAppend) -> None:
        """Append what was planned after the head that `lock` returned in this transaction."""
        if planned.packed.entries:
            store.insert_entries(connection, planned.packed)
            store.store_growth(connection, planned.growth)
        if planned.addressed:
            addressed.index_own(connection, self.origin, planned.addressed)

    def append(
        self, connection: RawConnection, head: store.LogHead, added: Sequence[NewEntry], write_time: datetime
    ) -> list[Place]:
        """Append entries after a head that `lock` returned in this transaction, and return their places in order.

        Those with an audience go down to the platforms that it names. Raises ServiceError(ENTRY_TOO_LARGE) for an entry
        over the limit; then nothing is written.
        """
        began_ns = time.time_ns()
        planned = self.plan(
            head,
            [new.entry for new in added],
            [new.leaf for new in added],
            write_time,
            {index: new.audience for index, new in enumerate(added) if new.audience},
        )
        self.write(connection, planned)
        trace = request_context().trace
        if trace is not None and added:
            # The commit is the caller's: what is shown is the writing, which it follows at once.
            committed(trace, self.stream, self.origin, head.size + 1, len(added), began_ns)
        return [Place(self.origin, sequence, new.leaf) for sequence, new in enumerate(added, head.size + 1)]
