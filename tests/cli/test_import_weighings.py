"""`zhichao import weighings` against a platform in miniature: counts, findings, repeats, broken connections."""

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.import_command import EXIT_FINDINGS, command
from cli.importer.conversion import RecordConverter, find_zone
from cli.importer.mapping import map_columns, read_wishes
from cli.importer.run import ImportStoppedError, Outcome, WeighingImport
from cli.importer.table import Table
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.common.rpc_client import connect
from tests.cli.fake_weighing import FakeWeighing, serving
from zhichao.weighing.v1 import record_pb2, service_pb2_grpc

WIM = Path(__file__).resolve().parents[3] / "shared" / "data" / "wim" / "wim_5000_trucks.csv"
PLACE = ["--source-unit", "141025-001", "--point", "P1", "--scale", "C1"]


@pytest.fixture
def weighing() -> FakeWeighing:
    return FakeWeighing()


@pytest.fixture
def address(tmp_path: Path, weighing: FakeWeighing) -> Iterator[str]:
    with serving(tmp_path, weighing=weighing) as address:
        yield address


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["weighings", *map(str, arguments)], catch_exceptions=False)


def import_json(path: Path, address: str, *arguments: str | Path) -> dict[str, object]:
    result = invoke(path, "--weighing", address, *PLACE, "--json", *arguments)
    summary: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return summary | {"exit_code": result.exit_code}


def write_rows(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["record_no", "time", "gross_kg"])
        writer.writerows([f"r{number}", f"2026-11-16 09:{number // 60 % 60:02d}:{number % 60:02d}", 20_000 + number]
                         for number in range(count))  # fmt: skip
    return path


def make_import(
    path: Path, address: str, *, pause: Callable[[float], None] = lambda seconds: None, retry_seconds: float = 30
) -> tuple[WeighingImport, Table, Callable[[], None]]:
    table = Table(path)
    converter = RecordConverter(
        map_columns(table.header, read_wishes([])),
        constants={"source_unit_id": "U", "weighing_point_id": "P", "scale_id": "C"},
        zone=find_zone("Asia/Shanghai"),
    )
    channel = connect(address)
    stub = service_pb2_grpc.WeighingServiceStub(channel)
    return (
        WeighingImport(stub, converter, batch_records=10, pause=pause, retry_seconds=retry_seconds),
        table,
        channel.close,
    )


@pytest.mark.skipif(not WIM.exists(), reason="the shared data is not here")
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_real_trucks_are_taken_once_in_any_order(
    tmp_path: Path, address: str, weighing: FakeWeighing, seed: int | None
) -> None:
    header, *rows = WIM.read_text(encoding="utf-8").splitlines()
    if seed is not None:
        random.Random(seed).shuffle(rows)
    path = tmp_path / "trucks.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")

    first = import_json(path, address)
    again = import_json(path, address)

    counts = ("rows", "accepted", "duplicate", "conflicting", "rejected", "exit_code")
    assert [first[name] for name in counts] == [5_000, 4_964, 29, 7, 0, EXIT_FINDINGS]
    assert [again[name] for name in counts] == [5_000, 0, 4_993, 7, 0, EXIT_FINDINGS]
    assert len(weighing.held) == 4_964


@pytest.mark.skipif(not WIM.exists(), reason="the shared data is not here")
def test_real_trucks_arrive_as_measured(address: str, weighing: FakeWeighing) -> None:
    import_json(WIM, address)

    record, _ = weighing.held["141025-001", "2271858"]
    assert record.weigh_time.ToJsonString() == "2012-11-16T01:28:13.700Z"
    assert (record.gross_weight_kg, record.speed_kmh, record.lane) == (13_500, 62, 4)
    assert (record.vehicle.axle_count, record.vehicle.length_mm) == (3, 6_750)
    assert record.vehicle.axle_group_codes == ""
    assert [axle.weight_kg for axle in record.vehicle.axles] == [4_400, 4_800, 4_300]
    assert [axle.spacing_mm for axle in record.vehicle.axles] == [5_500, 1_250, 0]
    assert record.event == record_pb2.WEIGHING_EVENT_GROSS
    for held, _ in weighing.held.values():
        assert len(held.vehicle.axles) == held.vehicle.axle_count
        assert sum(axle.weight_kg for axle in held.vehicle.axles) == held.gross_weight_kg


def test_everything_taken_ends_with_status_0(tmp_path: Path, address: str) -> None:
    result = invoke(write_rows(tmp_path / "f.csv", 25), "--weighing", address, *PLACE)

    assert result.exit_code == 0
    assert "25" in result.output


def test_repeats_within_one_batch_are_recognised(tmp_path: Path, address: str) -> None:
    path = write_rows(tmp_path / "f.csv", 3)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1], lines[2].replace("20001", "30001")]), encoding="utf-8")

    summary = import_json(path, address)

    assert (summary["accepted"], summary["duplicate"], summary["conflicting"]) == (3, 1, 1)


def test_findings_name_line_and_reason_and_go_to_the_file_of_rejects(
    tmp_path: Path, address: str, weighing: FakeWeighing
) -> None:
    def refuse(record: record_pb2.WeighingRecord) -> None:
        if record.gross_weight_kg > 200_000:
            raise invalid([FieldViolation("record.gross_weight_kg", "250000 is not within 500 to 200000")])

    weighing.refuse = refuse
    path = tmp_path / "f.csv"
    path.write_text(
        "record_no,time,gross_kg\nr1,2026-11-16 09:00,20000\nr2,2026-11-16 09:01,250000\nr3,never,20000\nr4,broken\n",
        encoding="utf-8",
    )
    rejects = tmp_path / "rejects.csv"

    summary = import_json(path, address, "--rejects", rejects)

    assert (summary["accepted"], summary["rejected"], summary["exit_code"]) == (1, 3, EXIT_FINDINGS)
    findings = summary["findings"]
    assert isinstance(findings, list)
    assert sorted((one["line"], one["reason"]) for one in findings) == [
        (3, "INVALID_ARGUMENT"), (4, "INVALID_CELL"), (5, "MALFORMED_LINE"),
    ]  # fmt: skip
    with rejects.open(newline="", encoding="utf-8-sig") as file:
        kept = {row["zhichao_line"]: row for row in csv.DictReader(file)}
    assert kept["3"]["record_no"] == "r2"
    assert "250000 is not within" in kept["3"]["zhichao_message"]
    assert kept["5"]["gross_kg"] is None


def test_corrected_rejects_can_be_imported_as_they_are(tmp_path: Path, address: str, weighing: FakeWeighing) -> None:
    path = tmp_path / "f.csv"
    path.write_text("record_no,time,gross_kg\nr1,never,20000\n", encoding="utf-8")
    rejects = tmp_path / "rejects.csv"
    import_json(path, address, "--rejects", rejects)
    corrected = tmp_path / "corrected.csv"
    text = rejects.read_text(encoding="utf-8-sig").replace("r1,never", "r1,2026-11-16 09:00")
    corrected.write_text(text, encoding="utf-8-sig")

    summary = import_json(corrected, address)

    assert (summary["accepted"], summary["exit_code"]) == (1, 0)
    assert ("141025-001", "r1") in weighing.held


def test_broken_connections_are_repaired_without_loss(tmp_path: Path, address: str, weighing: FakeWeighing) -> None:
    calls = iter(range(1_000))

    def fail() -> None:
        if next(calls) % 3 == 2:
            raise ServiceError(Reason.DATABASE_UNAVAILABLE, "away", retry_after_seconds=0.5)

    weighing.fail = fail
    pauses: list[float] = []
    importing, table, close = make_import(write_rows(tmp_path / "f.csv", 200), address, pause=pauses.append)

    result = importing.run(table.rows())

    close()
    assert result.outcomes[Outcome.ACCEPTED] + result.outcomes[Outcome.DUPLICATE] == len(weighing.held) == 200
    assert result.resent > 0
    assert min(pauses) >= 0.5


def test_an_import_that_breaks_off_says_where_to_go_on(tmp_path: Path, address: str, weighing: FakeWeighing) -> None:
    def fail() -> None:
        if len(weighing.held) >= 30:
            raise ServiceError(Reason.DATABASE_UNAVAILABLE, "away")

    weighing.fail = fail
    path = write_rows(tmp_path / "f.csv", 100)
    importing, table, close = make_import(path, address, retry_seconds=0)
    with pytest.raises(ImportStoppedError) as stopped:
        importing.run(table.rows())
    close()
    # The header and thirty rows.
    assert stopped.value.from_line == 32

    weighing.fail = lambda: None
    importing, table, close = make_import(path, address)
    result = importing.run(table.rows(from_line=stopped.value.from_line))
    close()

    assert (result.rows, result.outcomes[Outcome.ACCEPTED], len(weighing.held)) == (70, 70, 100)


def test_an_unknown_scale_stops_the_import_at_once(tmp_path: Path, address: str, weighing: FakeWeighing) -> None:
    def refuse(record: record_pb2.WeighingRecord) -> None:
        raise ServiceError(Reason.UNKNOWN_SCALE, f"{record.scale_id} is not registered")

    weighing.refuse = refuse
    result = invoke(write_rows(tmp_path / "f.csv", 9_000), "--weighing", address, *PLACE)

    assert result.exit_code == 1
    assert "UNKNOWN_SCALE: C1 is not registered" in result.output
    assert len(weighing.arrivals) < 9_000


def test_a_dry_run_connects_to_nothing(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.csv", 8)
    path.write_text(path.read_text(encoding="utf-8") + "r9,never,1\n", encoding="utf-8")

    result = invoke(path, "--dry-run")

    assert result.exit_code == EXIT_FINDINGS
    for text in ("gross_weight_kg", "Line 2", "Line 6", "never", "Would be sent"):
        assert text in result.output
    assert "Line 7" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--weighing is needed"),
        (["--weighing", "127.0.0.1:1"], "no column gives source_unit_id, weighing_point_id, scale_id"),
        (["--dry-run", "--map", "record_no=gross_weight_kg", "--map", "gross_kg="], "no column gives record_id"),
        (["--dry-run", "--time-zone", "Mars/Base"], "no time zone Mars/Base"),
    ],
)
def test_wrong_options_are_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(write_rows(tmp_path / "f.csv", 1), *arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_rejects_never_overwrite_the_import(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.csv", 1)

    result = invoke(path, "--dry-run", "--rejects", path)

    assert result.exit_code == 2
    assert path.read_text(encoding="utf-8").startswith("record_no")
