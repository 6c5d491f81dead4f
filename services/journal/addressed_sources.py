"""Logs that addressed entries are read from: the own one, whose proofs are made as they are read, and copies of what
platforms above have addressed, with the proofs that came along. Both for as long as one snapshot.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, Protocol

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import merkle, store
from services.journal.addressed_batch import BatchStep, ProvenEntry
from services.journal.digests import Digester
from services.journal.incoming import history_mismatch
from services.journal.limits import ADDRESSED_PROOFS_KEPT_MAX
from services.journal.notes import Checkpoint, SignedCheckpoint, Signer, log_name
from services.journal.store import addressed
from services.journal.store.addressed import Step

_TILE_NODES: Final = 1 << merkle.STORED_LEVEL_STEP
"""Nodes under one node of the next stored level: what the proofs of neighbours share."""


class AddressedSource(Protocol):
    """A log of which addressed entries are read."""

    origin: str

    def root_at(self, size: int) -> bytes | None:
        """Return the root that a reader at this size must hold; None while this log is behind the reader.

        Raises ServiceError BEYOND_LOG or HISTORY_MISMATCH when no reader can be there.
        """

    def build(self, steps: Sequence[Step], sequences: Collection[int]) -> list[BatchStep]:
        """Return steps with their entries as far as these are asked for, and entry 1 in the first step of the log.

        Raises ServiceError HISTORY_MISMATCH for an entry that is stored no more.
        """


class OwnSource:
    """The own log. Signs and proves any size."""

    def __init__(
        self,
        connection: store.Connection,
        head: store.LogHead,
        stream: str,
        signer: Signer,
        proofs: "KeptProofs",
    ) -> None:
        self.origin = head.origin
        self._connection = connection
        self._head = head
        self._stream = stream
        self._signer = signer
        self._proofs = proofs
        proofs.drop_beyond(head.size)
        self._digester = Digester(head.digest_algorithm)
        self._nodes = _Tiles(partial(store.read_nodes, connection, head.origin))

    def root_at(self, size: int) -> bytes:
        """Return the root of the log at a size. Raises ServiceError BEYOND_LOG."""
        if size > self._head.size:
            raise ServiceError(
                Reason.BEYOND_LOG,
                f"the reader has received the log of {self.origin} up to {size}, and it has {self._head.size} entries "
                "here: this platform was restored from an old backup",
                message_zh=f"下级平台已收到 {self.origin} 日志的第 {size} 条，而本平台仅有 {self._head.size} 条："
                "本平台曾从旧备份恢复",
                metadata={"size": str(self._head.size)},
            )
        if size == self._head.size:
            return self._head.root
        return merkle.frontier_at(self._digester, self._nodes, size).root(self._digester)

    def build(self, steps: Sequence[Step], sequences: Collection[int]) -> list[BatchStep]:
        """Return steps with entries, signed and proven."""
        wanted = _wanted(steps, sequences)
        entries = dict(addressed.read_own(self._connection, self.origin, list(chain.from_iterable(wanted))))
        return [
            self._build(step, of_step, entries)
            for step, of_step in zip(steps, _checked(self.origin, wanted, entries), strict=True)
        ]

    def _build(self, step: Step, sequences: Sequence[int], entries: Mapping[int, bytes]) -> BatchStep:
        note, path = self._proofs.get(step, self._prove)
        proven = [
            ProvenEntry(
                sequence,
                entries[sequence],
                merkle.inclusion_path(self._digester, self._nodes, sequence - 1, step.size),
            )
            for sequence in sequences
        ]
        return BatchStep(step.previous_size, note, path, proven)

    def _prove(self, step: Step) -> tuple[str, list[bytes]]:
        """Return the signed checkpoint of a step, and the proof that it continues the one before."""
        checkpoint = Checkpoint(log_name(self._stream, self.origin), step.size, self.root_at(step.size))
        path = (
            merkle.consistency_path(self._digester, self._nodes, step.previous_size, step.size)
            if step.previous_size
            else []
        )
        return self._signer.sign(checkpoint).format(), path


class CopiedSource:
    """What a platform above has addressed, as it was received."""

    def __init__(self, connection: store.Connection, log: addressed.AddressedLog) -> None:
        self.origin = log.origin
        self._connection = connection
        self._log = log

    def root_at(self, size: int) -> bytes | None:
        """Return the root of the step at a size; None when we have not got there.

        Raises ServiceError HISTORY_MISMATCH when there is no such step.
        """
        if size > self._log.through_sequence:
            return None
        step = addressed.steps_at(self._connection, self.origin, [size]).get(size)
        if step is None:
            raise history_mismatch(self.origin, size, "the reader stands at a step that is not held here")
        return SignedCheckpoint.parse(step.note).checkpoint.root

    def build(self, steps: Sequence[Step], sequences: Collection[int]) -> list[BatchStep]:
        """Return steps with entries as they are stored."""
        wanted = _wanted(steps, sequences)
        held = addressed.read_copied(self._connection, self.origin, list(chain.from_iterable(wanted)))
        entries = {one.sequence: ProvenEntry(one.sequence, one.entry, one.inclusion_path) for one in held}
        return [
            BatchStep(step.previous_size, step.note, step.consistency_path, [entries[sequence] for sequence in of_step])
            for step, of_step in zip(steps, _checked(self.origin, wanted, entries), strict=True)
        ]


class KeptProofs:
    """Checkpoints and proofs of the own log's steps, which never change, kept for the next reader."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Step, tuple[str, list[bytes]]]] = OrderedDict()
        self._largest = 0
        self._lock = threading.Lock()

    def drop_beyond(self, size: int) -> None:
        """Drop everything when the log has become shorter than what is kept: its database was replaced under us."""
        with self._lock:
            if self._largest > size:
                self._kept.clear()
                self._largest = 0

    def get(self, step: Step, make: Callable[[Step], tuple[str, list[bytes]]]) -> tuple[str, list[bytes]]:
        """Return what is kept for a step, or make it. Two readers at once may both make it."""
        with self._lock:
            kept = self._kept.get(step.size)
            if kept is not None and kept[0] == step:
                self._kept.move_to_end(step.size)
                return kept[1]
        made = make(step)
        with self._lock:
            self._kept[step.size] = (step, made)
            self._largest = max(self._largest, step.size)
            self._kept.move_to_end(step.size)
            while len(self._kept) > ADDRESSED_PROOFS_KEPT_MAX:
                self._kept.popitem(last=False)
        return made


class _Tiles:
    """Stored nodes, read 256 at a time and kept: proofs of one batch read the same ones again and again.

    A batch reads some tiles for each of its entries and steps, 17 KiB each: 20 MiB at the very most.
    """

    def __init__(self, read: merkle.ReadNodes) -> None:
        self._read = read
        self._tiles: dict[tuple[int, int], Sequence[bytes]] = {}

    def __call__(self, level: int, first_index: int, count: int) -> Sequence[bytes]:
        """Return stored nodes; a range never crosses a tile, as it is one subtree below a stored level."""
        index, offset = divmod(first_index, _TILE_NODES)
        tile = self._tiles.get((level, index))
        if tile is None:
            tile = self._tiles[level, index] = self._read(level, index * _TILE_NODES, _TILE_NODES)
        return tile[offset : offset + count]


def _wanted(steps: Sequence[Step], sequences: Collection[int]) -> list[list[int]]:
    """Return which entries each step comes with."""
    return [
        [
            sequence
            for sequence in ((1, step.size) if step.previous_size == 0 else (step.size,))
            if sequence in sequences
        ]
        for step in steps
    ]


def _checked(origin: str, wanted: Sequence[Sequence[int]], entries: Mapping[int, object]) -> Sequence[Sequence[int]]:
    """Return the entries wanted. Raises ServiceError HISTORY_MISMATCH when one is not stored any more."""
    gone = next((sequence for sequence in chain.from_iterable(wanted) if sequence not in entries), None)
    if gone is not None:
        raise ServiceError(
            Reason.HISTORY_MISMATCH,
            f"entry {gone} of the log of {origin} is gone from this platform's database: restore it from a backup or "
            "from another level",
            message_zh=f"{origin} 日志第 {gone} 条已从本平台数据库丢失，请从备份或其他级别恢复",
            metadata={"origin": origin, "sequence": str(gone)},
        )
    return wanted
