"""Compares what terminals had acknowledged with what a level holds: nothing missing, nothing changed, nothing twice."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from zhichao.journal.v1 import entry_pb2
from zhichao.video.v1 import evidence_pb2
from zhichao.weighing.v1 import weighing_pb2

WEIGHING_KIND = "zhichao.weighing.v1.Weighing"
EVIDENCE_KIND = "zhichao.video.v1.Evidence"

_KEY_BYTES = 16
_PLACE_BYTES = _KEY_BYTES + 32

# Examples kept of each kind of difference.
EXAMPLES_MAX = 3


def record_key(source_unit_id: str, record_id: str) -> bytes:
    """Return a short name for a record: a million of them have to fit in memory."""
    text = f"{source_unit_id}\n{record_id}".encode()
    return hashlib.blake2b(text, digest_size=_KEY_BYTES).digest()


class Acknowledged:
    """What the terminals' ledger says: by sequence, which record and which leaf digest."""

    def __init__(self) -> None:
        # One fixed slot for each sequence: 48 bytes a record where a dict would take some 300.
        self._places = bytearray()
        self.keys: set[bytes] = set()
        # Records acknowledged at two places, which must not be.
        self.moved_count = 0
        # Places acknowledged for two records.
        self.shared_count = 0
        self.origins: set[str] = set()

    @classmethod
    def read(cls, path: Path, id_field: str = "record_id") -> "Acknowledged":
        """Read a ledger. A last line that was cut by a kill is not an acknowledgement yet."""
        ledger = cls()
        for line in read_lines(path):
            ledger._add(line, id_field)
        return ledger

    @property
    def count(self) -> int:
        """Distinct records acknowledged."""
        return len(self.keys)

    def at(self, sequence: int) -> tuple[bytes, bytes] | None:
        """Return key and leaf digest acknowledged for a place."""
        place = self._places[sequence * _PLACE_BYTES : (sequence + 1) * _PLACE_BYTES]
        return (bytes(place[:_KEY_BYTES]), bytes(place[_KEY_BYTES:])) if any(place) else None

    def _add(self, line: Mapping[str, object], id_field: str) -> None:
        if line.get("outcome") != "acknowledged":
            return
        sequence = int(str(line["sequence"]))
        key = record_key(str(line["source_unit_id"]), str(line[id_field]))
        place = key + bytes.fromhex(str(line["leaf_digest"]))
        self.origins.add(str(line["origin"]))
        held = self.at(sequence)
        if held is not None and held != (key, place[_KEY_BYTES:]):
            self.shared_count += 1
        if key in self.keys and held is None:
            self.moved_count += 1
        self.keys.add(key)
        end = (sequence + 1) * _PLACE_BYTES
        if len(self._places) < end:
            self._places.extend(bytes(end - len(self._places)))
        self._places[end - _PLACE_BYTES : end] = place


class LedgerCheck:
    """Watches one level's copy of the county's log go by."""

    def __init__(
        self,
        acknowledged: Acknowledged,
        key_of: Callable[[bytes], bytes | None] | None = None,
        *,
        on_held: Callable[[bytes], None] | None = None,
    ) -> None:
        self._acknowledged = acknowledged
        self._key_of = key_of or weighing_key
        # Told the key of each that is held as acknowledged.
        self._on_held = on_held
        self._others: set[bytes] = set()
        self.weighing_count = 0
        # Acknowledged records found at their place with their digest.
        self.held_count = 0
        # Weighings of records that are held at another place too.
        self.twice_count = 0
        # Weighings whose answer no terminal has seen.
        self.unacknowledged_count = 0
        self.examples: list[str] = []

    @property
    def missing_count(self) -> int:
        """Acknowledged records that are not at their place, or not with their digest."""
        return self._acknowledged.count - self.held_count

    def observe(self, sequences: Sequence[int], entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Look at a run of entries; `leaves` are digests of the bytes as they are now."""
        for sequence, entry, leaf in zip(sequences, entries, leaves, strict=True):
            key = self._key_of(entry)
            expected = self._acknowledged.at(sequence)
            if key is not None:
                self.weighing_count += 1
            if expected is not None:
                if key is not None and expected == (key, leaf):
                    self.held_count += 1
                    if self._on_held is not None:
                        self._on_held(key)
                else:
                    self._example(f"sequence {sequence:,} holds another entry than was acknowledged")
            elif key is not None:
                self._look_at_other(sequence, key)

    def _look_at_other(self, sequence: int, key: bytes) -> None:
        if key in self._acknowledged.keys or key in self._others:
            self.twice_count += 1
            self._example(f"sequence {sequence:,} holds a record that is held elsewhere too")
        else:
            self._others.add(key)
            self.unacknowledged_count += 1

    def _example(self, text: str) -> None:
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)


def read_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a ledger; none when there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)


def evidence_key(entry: bytes) -> bytes | None:
    """Return the key of the manifest in an entry, None when it is none."""
    try:
        parsed = entry_pb2.Entry.FromString(entry)
        if parsed.kind != EVIDENCE_KIND:
            return None
        evidence = evidence_pb2.Evidence.FromString(parsed.payload)
    except (DecodeError, ValueError):
        return None
    return record_key(evidence.source_unit_id, evidence.evidence_id)


def weighing_key(entry: bytes) -> bytes | None:
    """Return the key of the record in an entry, None when it is no weighing."""
    try:
        parsed = entry_pb2.Entry.FromString(entry)
        if parsed.kind != WEIGHING_KIND:
            return None
        record = weighing_pb2.Weighing.FromString(parsed.payload).record
    except (DecodeError, ValueError):
        return None
    return record_key(record.source_unit_id, record.record_id)
