"""The checker finds what it is there for: a small log of its own, and one thing wrong with it at a time."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system import checker
from tests.system.checker import Checker, Held, day_sums
from tests.system.history import History
from tests.system.journals import LogCopy
from tests.system.proofs import COSIGNER, OWNER, Key, Tree, leaf_of
from tests.system.reaching import Place
from zhichao.journal.v1 import entry_pb2, journal_pb2
from zhichao.weighing.v1 import record_pb2, service_pb2, weighing_pb2

COUNTY, CITY = "141025", "141000"
RECORDS = 5


class PaperLevels:
    """Two levels with their logs in memory, and a history that fits them."""

    def __init__(self) -> None:
        self.history = History()
        self._secrets = {origin: Ed25519PrivateKey.generate() for origin in (COUNTY, CITY)}
        self.weighings: dict[tuple[str, str], list[service_pb2.HeldWeighing]] = {}
        self.totals: dict[tuple[str, str], list[service_pb2.DayTotal]] = {}
        self.logs: dict[tuple[str, str], LogCopy] = {}
        for stream in checker.STREAMS:
            for origin, level in ((COUNTY, COUNTY), (COUNTY, CITY), (CITY, CITY)):
                entries = [self._start(stream, origin)]
                if (stream, origin) == ("weighing", COUNTY):
                    entries += [weighing_entry(number) for number in range(RECORDS)]
                self.put(stream, origin, level, entries)
        for number in range(RECORDS):
            record, entry = record_of(number), weighing_entry(number)
            self.history.sending(record)
            receipt = weighing_pb2.Receipt(origin=COUNTY, sequence=number + 2, leaf_digest=leaf_of(entry))
            judgement = weighing_pb2.Judgement(verdict=weighing_pb2.VERDICT_COMPLIANT)
            self.history.acknowledged(record, service_pb2.Recorded(receipt=receipt, judgement=judgement))

    def put(self, stream: str, origin: str, level: str, entries: Sequence[bytes]) -> LogCopy:
        """Let a level hold a log with these entries, and everything that follows from them."""
        leaves = [leaf_of(entry) for entry in entries]
        root = Tree(leaves).root()
        position = journal_pb2.Position(
            origin=origin, stream=stream, size=len(entries), root=root, total_bytes=sum(map(len, entries))
        )
        text = f"zhichao/{origin}/{stream}\n{len(entries)}\n{base64.b64encode(root).decode()}\n"
        note = f"{text}\n{self._signature(origin, OWNER, text)}"
        newest = note if origin == level else note + self._signature(level, COSIGNER, text)
        copy = LogCopy(position, list(entries), leaves, [note], newest)
        address = f"{level}/{stream}"
        self.logs[address, origin] = copy
        held: list[service_pb2.HeldWeighing] = []
        for sequence, content in enumerate(entries, 1):
            entry = entry_pb2.Entry.FromString(content)
            if entry.kind == checker.WEIGHING_KIND:
                receipt = weighing_pb2.Receipt(origin=origin, sequence=sequence, leaf_digest=leaf_of(content))
                weighing = weighing_pb2.Weighing.FromString(entry.payload)
                held.insert(0, service_pb2.HeldWeighing(receipt=receipt, weighing=weighing))
        self.weighings[address, origin] = held
        self.totals[address, origin] = list(day_sums(origin, [one.weighing for one in held]).values())
        return copy

    def check(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return what the checker finds."""
        monkeypatch.setattr(
            checker,
            "read_positions",
            lambda place: {origin: log.position for (at, origin), log in self.logs.items() if at == place.address},
        )
        monkeypatch.setattr(checker, "read_log", lambda place, position: self.logs[place.address, position.origin])
        monkeypatch.setattr(checker, "list_weighings", lambda place, origin: self.weighings[place.address, origin])
        monkeypatch.setattr(checker, "list_day_totals", lambda place, origin: self.totals[place.address, origin])
        monkeypatch.setattr(checker, "list_conflicts", lambda place: [])
        levels = [
            Held(level, {stream: Place(f"{level}/{stream}", Path()) for stream in checker.STREAMS})
            for level in (COUNTY, CITY)
        ]
        return Checker(levels, self.history).check()

    def _key(self, origin: str) -> Key:
        public = self._secrets[origin].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Key(f"zhichao/{origin}", public)

    def _start(self, stream: str, origin: str) -> bytes:
        key = self._key(origin)
        text = f"{key.name}+{key.number(OWNER).hex()}+{base64.b64encode(OWNER + key.public).decode()}"
        start = entry_pb2.LogStart(origin=origin, stream=stream, digest_algorithm="sha256", verifier_key=text)
        return entry_pb2.Entry(kind=checker.LOG_START_KIND, payload=start.SerializeToString()).SerializeToString()

    def _signature(self, origin: str, kind: bytes, text: str) -> str:
        key, stamp = self._key(origin), b""
        if kind == COSIGNER:
            stamp, text = (7).to_bytes(8, "big"), f"cosignature/v1\ntime 7\n{text}"
        content = key.number(kind) + stamp + self._secrets[origin].sign(text.encode())
        return f"— {key.name} {base64.b64encode(content).decode()}\n"


def record_of(number: int) -> record_pb2.WeighingRecord:
    record = record_pb2.WeighingRecord(record_id=f"r{number}", source_unit_id="U", gross_weight_kg=20_000 + number)
    record.weigh_time.FromSeconds(1_800_000_000 + number)
    return record


def weighing_entry(number: int) -> bytes:
    weighing = weighing_pb2.Weighing(
        record=record_of(number), judgement=weighing_pb2.Judgement(verdict=weighing_pb2.VERDICT_COMPLIANT)
    )
    return entry_pb2.Entry(kind=checker.WEIGHING_KIND, payload=weighing.SerializeToString()).SerializeToString()


@pytest.fixture
def paper() -> PaperLevels:
    return PaperLevels()


def test_finds_nothing_when_all_is_well(paper: PaperLevels, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paper.check(monkeypatch) == []


def lose_the_last(paper: PaperLevels) -> None:
    for level in (COUNTY, CITY):
        paper.put("weighing", COUNTY, level, paper.logs[f"{level}/weighing", COUNTY].entries[:-1])


def hold_twice(paper: PaperLevels) -> None:
    for level in (COUNTY, CITY):
        entries = paper.logs[f"{level}/weighing", COUNTY].entries
        paper.put("weighing", COUNTY, level, [*entries, entries[-1]])


def swap_two(paper: PaperLevels) -> None:
    for level in (COUNTY, CITY):
        first, *others, one, other = paper.logs[f"{level}/weighing", COUNTY].entries
        paper.put("weighing", COUNTY, level, [first, *others, other, one])


def invent(paper: PaperLevels) -> None:
    for level in (COUNTY, CITY):
        entries = paper.logs[f"{level}/weighing", COUNTY].entries
        paper.put("weighing", COUNTY, level, [*entries, weighing_entry(RECORDS)])


def differ_above(paper: PaperLevels) -> None:
    entries = paper.logs[f"{CITY}/weighing", COUNTY].entries
    paper.put("weighing", COUNTY, CITY, [*entries[:-1], weighing_entry(RECORDS)])


def change_bytes(paper: PaperLevels) -> None:
    entries = paper.logs[f"{COUNTY}/weighing", COUNTY].entries
    entries[2] = weighing_entry(99)


def leave_unsigned(paper: PaperLevels) -> None:
    copy = paper.logs[f"{COUNTY}/registry", COUNTY]
    copy.notes = [note.replace("zhichao/141025 ", "zhichao/141026 ") for note in copy.notes]


def leave_uncosigned(paper: PaperLevels) -> None:
    copy = paper.logs[f"{CITY}/registry", COUNTY]
    copy.newest_note = copy.notes[0]


def park_one(paper: PaperLevels) -> None:
    paper.logs[f"{CITY}/weighing", COUNTY].position.parked_count = 1


def forget_a_log(paper: PaperLevels) -> None:
    del paper.logs[f"{CITY}/registry", COUNTY]


def lose_a_row(paper: PaperLevels) -> None:
    paper.weighings[f"{CITY}/weighing", COUNTY].pop(1)


def list_a_row_twice(paper: PaperLevels) -> None:
    rows = paper.weighings[f"{CITY}/weighing", COUNTY]
    rows.append(rows[-1])


def miscount(paper: PaperLevels) -> None:
    paper.totals[f"{CITY}/weighing", COUNTY][0].weighing_count += 1


def answer_twice_differently(paper: PaperLevels) -> None:
    receipt = weighing_pb2.Receipt(origin=COUNTY, sequence=99, leaf_digest=bytes(32))
    paper.history.acknowledged(record_of(0), service_pb2.Recorded(receipt=receipt))


def promise_a_conflict(paper: PaperLevels) -> None:
    paper.history.conflicting(record_of(0))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lose_the_last, "is missing"),
        (hold_twice, "is held as entries 6 and 7"),
        (swap_two, "is not what is held there"),
        (invent, "holds what nobody sent"),
        (differ_above, "entry 6 differs"),
        (change_bytes, "the root is not that of the entries"),
        (change_bytes, "the stored leaf digests are not those"),
        (leave_unsigned, "is not signed"),
        (leave_uncosigned, "has not cosigned"),
        (park_one, "are parked"),
        (forget_a_log, "holds registry logs of ['141000']"),
        (lose_a_row, "are not listed"),
        (list_a_row_twice, "are listed twice"),
        (miscount, "day totals are"),
        (answer_twice_differently, "was answered"),
        (promise_a_conflict, "promised to be kept"),
    ],
)
def test_finds(
    paper: PaperLevels, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[PaperLevels], None], expected: str
) -> None:
    spoil(paper)
    findings = paper.check(monkeypatch)
    assert any(expected in finding for finding in findings), findings
