"""The checker: compares what clients were told with the journals of all levels, trusting no level about another.

After the manner of the etcd robustness tests: it takes the history of acknowledgements, reads everything over public
RPCs and derives roots, totals and rows again with code of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from typing import Final, TypeVar

from tests.system.history import History, RecordKey, content_of, key_of
from tests.system.journals import (
    LogCopy,
    list_conflicts,
    list_day_totals,
    list_weighings,
    read_log,
    read_positions,
)
from tests.system.proofs import Key, Note, Tree, leaf_of
from tests.system.reaching import Place
from zhichao.journal.v1 import entry_pb2
from zhichao.weighing.v1 import service_pb2, weighing_pb2

WEIGHING_KIND: Final = "zhichao.weighing.v1.Weighing"
CONFLICT_KIND: Final = "zhichao.weighing.v1.WeighingConflict"
LOG_START_KIND: Final = "zhichao.journal.v1.LogStart"
# Fixed by the contract: what is kept of one record id.
CONFLICTS_PER_RECORD_MAX: Final = 8

CHINA_STANDARD_TIME: Final = timezone(timedelta(hours=8))
STREAMS: Final = ("registry", "weighing", "video", "enforcement")
FINDINGS_SHOWN_MAX: Final = 25

Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Held:
    """One level as it is reached from outside, from the lowest to the highest."""

    platform: str
    # By service.
    places: Mapping[str, Place]


class Checker:
    """Checks levels from the lowest to the highest against a history. `findings` stays empty when all is well.

    Without `checks_rows` the lists and totals are left out; with `has_other_senders` records may be held that are not
    in the history.
    """

    def __init__(
        self,
        levels: Sequence[Held],
        history: History,
        *,
        checks_rows: bool = True,
        has_other_senders: bool = False,
    ) -> None:
        self._levels = levels
        self._history = history
        self._checks_rows = checks_rows
        self._has_other_senders = has_other_senders
        self.findings: list[str] = []
        # (stream, origin) -> the lowest copy, which all others are compared with.
        self.logs: dict[tuple[str, str], LogCopy] = {}
        self._keys: dict[str, Key] = {}
        # Of the lowest copies of the weighing logs, by origin and sequence.
        self.weighings: dict[str, dict[int, weighing_pb2.Weighing]] = {}
        self.conflicts: dict[str, dict[int, weighing_pb2.WeighingConflict]] = {}

    def check(self) -> list[str]:
        """Check everything once; return what is wrong."""
        self.findings += self._history.oddities
        for stream in STREAMS:
            for height, level in enumerate(self._levels):
                self._check_level(stream, height, level)
        for origin in self.weighings:
            self._check_weighings(origin)
        self._check_acknowledged()
        return self.findings

    def _finds(self, is_wrong: object, what: str) -> None:
        if is_wrong:
            self.findings.append(what)

    # Journals

    def _check_level(self, stream: str, height: int, level: Held) -> None:
        place = level.places[stream]
        positions = read_positions(place)
        wanted = {below.platform for below in self._levels[: height + 1]}
        self._finds(set(positions) != wanted, f"{level.platform} holds {stream} logs of {sorted(positions)}")
        # The own log first: it names the key with which this level cosigns the others.
        for origin in sorted(wanted & set(positions), key=lambda one: one != level.platform):
            where = f"{stream} log of {origin} at {level.platform}"
            copy = read_log(place, positions[origin])
            self._check_copy(where, stream, copy)
            lowest = self.logs.setdefault((stream, origin), copy)
            if lowest is not copy:
                self._compare(where, lowest, copy)
            elif stream == "weighing":
                self.weighings[origin] = _payloads(copy, WEIGHING_KIND, weighing_pb2.Weighing.FromString)
                self.conflicts[origin] = _payloads(copy, CONFLICT_KIND, weighing_pb2.WeighingConflict.FromString)
            self._check_note(where, stream, origin, level, copy)
            if stream == "weighing" and self._checks_rows:
                self._check_rows(where, place, origin, copy)
        if stream == "weighing" and self._checks_rows:
            self._check_conflict_rows(level, place)

    def _check_copy(self, where: str, stream: str, copy: LogCopy) -> None:
        position = copy.position
        self.findings += [f"{where}: {gap}" for gap in copy.gaps]
        self._finds(len(copy.entries) != position.size, f"{where}: {len(copy.entries)} entries, size {position.size}")
        self._finds(
            position.total_bytes != sum(map(len, copy.entries)), f"{where}: total_bytes is {position.total_bytes}"
        )
        self._finds(position.parked_count, f"{where}: {position.parked_count} entries are parked")
        leaves = [leaf_of(entry) for entry in copy.entries]
        self._finds(copy.leaves != leaves, f"{where}: the stored leaf digests are not those of the entries")
        tree = Tree(leaves)
        self._finds(tree.root() != position.root, f"{where}: the root is not that of the entries")
        key = self._key_of(where, copy, stream)
        for text in copy.notes if key else ():
            note = Note.read(text)
            is_right = note.log == f"zhichao/{position.origin}/{stream}" and note.size <= tree.size
            self._finds(not is_right, f"{where}: a checkpoint is for {note.log} at {note.size}")
            if is_right:
                self._finds(
                    tree.root(note.size) != note.root, f"{where}: the checkpoint at {note.size} has another root"
                )
            self._finds(key and not note.is_signed_by(key), f"{where}: the checkpoint at {note.size} is not signed")

    def _key_of(self, where: str, copy: LogCopy, stream: str) -> Key | None:
        if not copy.entries:
            self.findings.append(f"{where}: the log is empty")
            return None
        entry = entry_pb2.Entry.FromString(copy.entries[0])
        start = entry_pb2.LogStart.FromString(entry.payload)
        origin = copy.position.origin
        is_right = (entry.kind, start.origin, start.stream) == (LOG_START_KIND, origin, stream)
        self._finds(not is_right, f"{where}: entry 1 does not begin this log")
        key = Key.read(start.verifier_key)
        self._finds(
            self._keys.setdefault(origin, key) != key, f"{where}: another key than in the other logs of {origin}"
        )
        return key

    def _compare(self, where: str, lowest: LogCopy, copy: LogCopy) -> None:
        if lowest.entries != copy.entries:
            pairs = enumerate(zip(lowest.entries, copy.entries, strict=False), 1)
            differing = [sequence for sequence, (one, other) in pairs if one != other]
            sizes = f"{len(copy.entries)} entries where the owner has {len(lowest.entries)}"
            self.findings.append(f"{where}: {f'entry {differing[0]} differs' if differing else sizes}")
        self._finds(lowest.position.root != copy.position.root, f"{where}: another root than at the owner")

    def _check_note(self, where: str, stream: str, origin: str, level: Held, copy: LogCopy) -> None:
        """Check the newest checkpoint: signed by the owner, and cosigned by whoever holds the log as a copy."""
        note = Note.read(copy.newest_note)
        key, own_key = self._keys.get(origin), self._keys.get(level.platform)
        self._finds(
            (note.log, note.size, note.root) != (f"zhichao/{origin}/{stream}", copy.position.size, copy.position.root),
            f"{where}: the newest checkpoint is for {note.log} at {note.size}",
        )
        self._finds(key and not note.is_signed_by(key), f"{where}: the newest checkpoint is not signed by {origin}")
        if origin != level.platform and own_key:
            self._finds(not note.is_cosigned_by(own_key), f"{where}: this level has not cosigned it")

    # Tables

    def _check_rows(self, where: str, place: Place, origin: str, copy: LogCopy) -> None:
        """Compare the list with the journal, one to one, and the day totals with its sums."""
        wanted = self.weighings[origin]
        listed = list_weighings(place, origin)
        found = {held.receipt.sequence: held for held in listed}
        self._finds(len(found) != len(listed), f"{where}: {len(listed) - len(found)} weighings are listed twice")
        lost, surplus = wanted.keys() - found.keys(), found.keys() - wanted.keys()
        self._finds(lost, f"{where}: {len(lost)} weighings are not listed, such as {min(lost, default=0)}")
        self._finds(surplus, f"{where}: {len(surplus)} listed ones are no weighings, such as {min(surplus, default=0)}")
        for sequence in wanted.keys() & found.keys():
            held = found[sequence]
            is_same = held.weighing == wanted[sequence] and held.receipt.leaf_digest == copy.leaves[sequence - 1]
            self._finds(not is_same or held.receipt.origin != origin, f"{where}: entry {sequence} is listed otherwise")
        times = [held.weighing.record.weigh_time.ToNanoseconds() for held in listed]
        self._finds(times != sorted(times, reverse=True), f"{where}: the list is not newest first")
        totals = {(total.source_unit_id, total.day): total for total in list_day_totals(place, origin)}
        sums = day_sums(origin, wanted.values())
        self._finds(totals != sums, f"{where}: day totals are {totals}, not {sums}")

    def _check_conflict_rows(self, level: Held, place: Place) -> None:
        listed = Counter((held.receipt.origin, held.receipt.sequence) for held in list_conflicts(place))
        wanted = Counter((origin, sequence) for origin, conflicts in self.conflicts.items() for sequence in conflicts)
        self._finds(listed != wanted, f"{level.platform} lists {len(listed)} conflicts, not {len(wanted)}")

    # Records

    def _check_weighings(self, origin: str) -> None:
        """Check that no record is held twice, that conflicts refer to what is held, and that somebody sent it all."""
        places: dict[RecordKey, int] = {}
        sent = self._history.sent
        for sequence, weighing in self.weighings[origin].items():
            key = key_of(weighing.record)
            first = places.setdefault(key, sequence)
            self._finds(first != sequence, f"{origin}: record {key} is held as entries {first} and {sequence}")
            if not self._has_other_senders:
                is_sent = content_of(weighing.record) in sent.get(key, ())
                self._finds(not is_sent, f"{origin}: entry {sequence} holds what nobody sent, {key}")
        counts: Counter[RecordKey] = Counter()
        contents: dict[RecordKey, set[bytes]] = defaultdict(set)
        for sequence, conflict in self.conflicts[origin].items():
            key, content = key_of(conflict.record), content_of(conflict.record)
            counts[key] += 1
            self._finds(content in contents[key], f"{origin}: entry {sequence} repeats a conflict of {key}")
            contents[key].add(content)
            is_right = places.get(key) == conflict.first_sequence < sequence
            self._finds(not is_right, f"{origin}: conflict {sequence} names entry {conflict.first_sequence} for {key}")
        self._finds(
            any(count > CONFLICTS_PER_RECORD_MAX for count in counts.values()), f"{origin}: too many conflicts are kept"
        )

    def _check_acknowledged(self) -> None:
        """Check that everything acknowledged is at its place, as it was sent and judged."""
        for key, (answer, content) in self._history.acknowledgements.items():
            weighing = self.weighings.get(answer.origin, {}).get(answer.sequence)
            what = f"acknowledged record {key} at {answer.origin} {answer.sequence}"
            if weighing is None:
                self.findings.append(f"{what} is missing")
                continue
            leaf = self.logs["weighing", answer.origin].leaves[answer.sequence - 1]
            is_right = (key_of(weighing.record), content_of(weighing.record), leaf, weighing.judgement.verdict) == (
                key,
                content,
                answer.leaf,
                answer.verdict,
            )
            self._finds(not is_right, f"{what} is not what is held there")
        kept = {
            (key_of(conflict.record), content_of(conflict.record))
            for conflicts in self.conflicts.values()
            for conflict in conflicts.values()
        }
        lost = self._history.conflicts - kept
        self._finds(lost, f"{len(lost)} conflicting submissions that were promised to be kept are not")


def _payloads(log: LogCopy, kind: str, read: Callable[[bytes], Payload]) -> dict[int, Payload]:
    entries = enumerate(map(entry_pb2.Entry.FromString, log.entries), 1)
    return {sequence: read(entry.payload) for sequence, entry in entries if entry.kind == kind}


def day_sums(origin: str, weighings: Iterable[weighing_pb2.Weighing]) -> dict[tuple[str, str], service_pb2.DayTotal]:
    """Sum weighings up by source unit and day in China Standard Time."""
    sums: dict[tuple[str, str], service_pb2.DayTotal] = {}
    for weighing in weighings:
        record = weighing.record
        day = record.weigh_time.ToDatetime(tzinfo=UTC).astimezone(CHINA_STANDARD_TIME).date().isoformat()
        key = record.source_unit_id, day
        if key not in sums:
            sums[key] = service_pb2.DayTotal(origin=origin, source_unit_id=record.source_unit_id, day=day)
        total = sums[key]
        total.weighing_count += 1
        total.gross_weight_sum_kg += record.gross_weight_kg
        total.no_plate_count += not weighing.plate_number
        verdict = weighing.judgement.verdict
        total.compliant_count += verdict == weighing_pb2.VERDICT_COMPLIANT
        total.undetermined_count += verdict == weighing_pb2.VERDICT_UNDETERMINED
        total.suspected_count += verdict == weighing_pb2.VERDICT_SUSPECTED
        total.not_judged_count += verdict == weighing_pb2.VERDICT_NOT_JUDGED
    return sums


def describe(findings: Sequence[str]) -> str:
    """Write findings one a line."""
    shown = "\n".join(f"  - {finding}" for finding in findings[:FINDINGS_SHOWN_MAX])
    return f"{len(findings)} findings:\n{shown}"
