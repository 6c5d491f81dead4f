"""The comparison of what was acknowledged with what is held, and of levels with each other."""

import json
from datetime import UTC, datetime
from pathlib import Path

from cli.run_check import behind
from cli.run_ledger import Acknowledged, LedgerCheck
from cli.status_figures import LogFigures, PlatformFigures, ServiceFigures
from cli.verifier.tree import Hashes
from zhichao.journal.v1 import entry_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2

LEAF = Hashes("sha256").leaf


def entry(record_id: str, *, kind: str = "zhichao.weighing.v1.Weighing") -> bytes:
    record = record_pb2.WeighingRecord(source_unit_id="unit", record_id=record_id)
    payload = weighing_pb2.Weighing(record=record).SerializeToString()
    return entry_pb2.Entry(kind=kind, schema=1, payload=payload).SerializeToString()


def ledger(tmp_path: Path, *lines: tuple[str, int], cut: str = "") -> Acknowledged:
    path = tmp_path / "ledger.jsonl"
    documents = [
        {
            "outcome": "acknowledged",
            "source_unit_id": "unit",
            "record_id": record_id,
            "origin": "141025",
            "sequence": sequence,
            "leaf_digest": LEAF(entry(record_id)).hex(),
        }
        for record_id, sequence in lines
    ]
    documents.append({"outcome": "refused", "source_unit_id": "unit", "record_id": "no"})
    path.write_text("".join(json.dumps(document) + "\n" for document in documents) + cut, "utf-8")
    return Acknowledged.read(path)


def checked(acknowledged: Acknowledged, *held: bytes) -> LedgerCheck:
    check = LedgerCheck(acknowledged)
    entries = [entry("", kind="zhichao.journal.v1.LogStart"), *held]
    check.observe(range(1, len(entries) + 1), entries, [LEAF(one) for one in entries])
    return check


def counts(check: LedgerCheck) -> tuple[int, int, int, int]:
    return check.held_count, check.missing_count, check.twice_count, check.unacknowledged_count


def test_everything_in_its_place(tmp_path: Path) -> None:
    acknowledged = ledger(tmp_path, ("a", 2), ("b", 3), ("a", 2))
    assert (acknowledged.count, acknowledged.moved_count, acknowledged.shared_count) == (2, 0, 0)
    check = checked(acknowledged, entry("a"), entry("b"))
    assert counts(check) == (2, 0, 0, 0)
    assert check.weighing_count == 2


def test_missing_and_changed_records(tmp_path: Path) -> None:
    acknowledged = ledger(tmp_path, ("a", 2), ("b", 3))
    assert counts(checked(acknowledged, entry("a"))) == (1, 1, 0, 0)
    assert counts(checked(acknowledged, entry("a"), entry("c"))) == (1, 1, 0, 0)
    assert counts(checked(acknowledged, entry("b"), entry("a"))) == (0, 2, 0, 0)
    assert counts(checked(acknowledged, b"\xff", entry("b"))) == (1, 1, 0, 0)


def test_records_held_twice(tmp_path: Path) -> None:
    acknowledged = ledger(tmp_path, ("a", 2), ("b", 3))
    assert counts(checked(acknowledged, entry("a"), entry("b"), entry("a"))) == (2, 0, 1, 0)
    assert counts(checked(acknowledged, entry("a"), entry("b"), entry("x"), entry("x"))) == (2, 0, 1, 1)


def test_an_answer_that_nobody_saw_is_no_difference(tmp_path: Path) -> None:
    acknowledged = ledger(tmp_path, ("a", 2))
    conflict = entry("a", kind="zhichao.weighing.v1.WeighingConflict")
    assert counts(checked(acknowledged, entry("a"), entry("x"), conflict)) == (1, 0, 0, 1)


def test_acknowledged_at_two_places(tmp_path: Path) -> None:
    acknowledged = ledger(tmp_path, ("a", 2), ("a", 3), ("b", 2))
    assert (acknowledged.moved_count, acknowledged.shared_count) == (1, 1)


def test_a_line_cut_by_a_kill_counts_for_nothing(tmp_path: Path) -> None:
    assert ledger(tmp_path, ("a", 2), cut='{"outcome": "acknowl').count == 1
    assert Acknowledged.read(tmp_path / "none").count == 0


def figures(platform: str, health: str = "SERVING", **sizes: int) -> PlatformFigures:
    return PlatformFigures(
        platform,
        datetime(2026, 1, 1, tzinfo=UTC),
        services=[ServiceFigures("weighing", "127.0.0.1:1", health)],
        logs=[LogFigures("weighing", origin[1:], size, False, 0, "", None) for origin, size in sizes.items()],
    )


def test_behind_is_what_upper_levels_lack() -> None:
    county, city = figures("141025", o141025=10), figures("141000", o141025=7, o141000=1)
    assert behind([county, city]) == 3
    assert behind([county, city, figures("140000", o141025=7)]) == 4
    assert behind([county, figures("141000", o141025=10)]) == 0
    assert behind([county, figures("141000", "NOT_SERVING", o141025=10)]) is None
