"""What clients sent and what they were told, from their side of the wire: the only thing that the checker believes."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from zhichao.weighing.v1 import record_pb2, service_pb2

# (source unit id, record id): how a terminal names a record for ever.
RecordKey = tuple[str, str]

ODDITIES_KEPT_MAX = 50


@dataclass(frozen=True)
class Acknowledgement:
    """The answer by which a terminal may forget a record."""

    origin: str
    sequence: int
    leaf: bytes
    verdict: int


def key_of(record: record_pb2.WeighingRecord) -> RecordKey:
    """Return the name of a record."""
    return record.source_unit_id, record.record_id


def content_of(record: record_pb2.WeighingRecord) -> bytes:
    """Return what of a record counts as its content: everything but `is_backfill`."""
    content = record_pb2.WeighingRecord()
    content.CopyFrom(record)
    content.ClearField("is_backfill")
    return content.SerializeToString(deterministic=True)


class History:
    """Collects the answers of all clients; safe for all of them at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[RecordKey, set[bytes]] = {}
        self._acknowledged: dict[RecordKey, tuple[Acknowledgement, bytes]] = {}
        self._conflicts: set[tuple[RecordKey, bytes]] = set()
        self._oddities: list[str] = []
        self._repeat_count = 0
        self._failure_count = 0

    def sending(self, record: record_pb2.WeighingRecord) -> None:
        """Note that a record goes out: it may be held from now on, whatever becomes of the call."""
        with self._lock:
            self._sent.setdefault(key_of(record), set()).add(content_of(record))

    def acknowledged(self, record: record_pb2.WeighingRecord, recorded: service_pb2.Recorded) -> None:
        """Note an acknowledgement; a later one for the same record has to be the same."""
        receipt = recorded.receipt
        answer = Acknowledgement(
            receipt.origin, receipt.sequence, bytes(receipt.leaf_digest), recorded.judgement.verdict
        )
        key, content = key_of(record), content_of(record)
        with self._lock:
            first = self._acknowledged.setdefault(key, (answer, content))
            self._repeat_count += first[0] is not answer
            if first != (answer, content):
                self._odd(f"record {key} was answered {first[0]} and then {answer}, or for two contents")

    def conflicting(self, record: record_pb2.WeighingRecord) -> None:
        """Note that a record was refused because its id is held with other content, and is kept as evidence."""
        with self._lock:
            self._conflicts.add((key_of(record), content_of(record)))

    def failed(self) -> None:
        """Count a call that failed in a way that clients have to live with."""
        with self._lock:
            self._failure_count += 1

    def odd(self, what: str) -> None:
        """Note an answer that no fault excuses."""
        with self._lock:
            self._odd(what)

    def _odd(self, what: str) -> None:
        if len(self._oddities) < ODDITIES_KEPT_MAX:
            self._oddities.append(what)

    # What the checker reads

    @property
    def sent(self) -> Mapping[RecordKey, set[bytes]]:
        """Contents that were sent, by record; read when no client runs any more."""
        return self._sent

    @property
    def acknowledgements(self) -> Mapping[RecordKey, tuple[Acknowledgement, bytes]]:
        """Acknowledgement and content by record; a copy."""
        with self._lock:
            return dict(self._acknowledged)

    @property
    def conflicts(self) -> set[tuple[RecordKey, bytes]]:
        """Records that were refused as conflicting, with their contents; a copy."""
        with self._lock:
            return set(self._conflicts)

    @property
    def oddities(self) -> list[str]:
        """Answers that no fault excuses."""
        with self._lock:
            return list(self._oddities)

    @property
    def acknowledged_count(self) -> int:
        """Records acknowledged."""
        return len(self._acknowledged)

    @property
    def failure_count(self) -> int:
        """Calls that failed."""
        return self._failure_count

    def summary(self) -> str:
        """Say in one line what happened."""
        return (
            f"{len(self._sent)} records sent, {len(self._acknowledged)} acknowledged, {self._repeat_count} again, "
            f"{len(self._conflicts)} conflicts, {self._failure_count} failed calls"
        )
