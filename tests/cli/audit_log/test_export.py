"""`zhichao audit-log export` and `list` against a real registry: what is exported, and how it is taken up again."""

import csv
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from cli import audit_log_command
from cli.audit_log import export as export_module
from cli.audit_log.manifest import manifest_path
from cli.main import main
from services.journal import access_export
from tests.cli.audit_log.shell import Shell, rows_of
from tests.registry.harness import RunningRegistry
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub


def test_everything_is_in_the_file_and_proven_complete(shell: Shell, exported: Path) -> None:
    rows = rows_of(exported)
    manifest = json.loads(manifest_path(exported).read_text("utf-8"))
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert manifest["record_count"] == len(rows)
    assert manifest["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    looked = [row for row in rows if row["action"].endswith("/ListCredentials")]
    assert {(row["actor"], row["service"], row["platform"], row["outcome"]) for row in looked} == {
        ("person/admin", "registry", "141025", "answered")
    }
    assert looked[-1]["purpose"] == '检查, "7"; ‘x’'
    assert all(row["time"].endswith("+08:00") for row in rows)
    exit_code, document = shell.verified(exported)
    assert (exit_code, document["is_right"], document["is_complete"]) == (0, True, True)
    (log,) = document["logs"]
    assert (log["service"], log["row_count"], log["findings"]) == ("registry", len(rows), [])
    assert log["closed_at"]
    assert exported.stat().st_mode & 0o777 == 0o600
    assert list(exported.parent.glob("*.partial*")) == []


def test_a_spreadsheet_reads_the_table_and_computes_nothing(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    shell.done("export", path)
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf\xe6\x97\xb6\xe9\x97\xb4 time,")
    with path.open(encoding="utf-8-sig", newline="") as file:
        titles, *rows = list(csv.reader(file))
    purposes = [row[titles.index("访问目的 purpose")] for row in rows]
    assert "'=HYPERLINK(1)" in purposes
    assert '检查, "7"; ‘x’' in purposes
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_complete"]) == (0, True), document


def test_a_window_is_cut_by_days_and_times(shell: Shell, registry: RunningRegistry, tmp_path: Path) -> None:
    everything = tmp_path / "all.jsonl"
    shell.done("export", everything)
    rows = rows_of(everything)
    path = tmp_path / "some.jsonl"
    shell.done("export", path, "--from", rows[4]["time"], "--to", rows[9]["time"])
    assert [row["number"] for row in rows_of(path)] == [5, 6, 7, 8, 9]
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_complete"]) == (0, True), document
    nothing = tmp_path / "nothing.jsonl"
    shell.done("export", nothing, "--from", "2020-01-01", "--to", "2020-06-30")
    exit_code, document = shell.verified(nothing)
    assert (exit_code, document["is_complete"], document["record_count"]) == (0, True, 0), document
    assert document["to"] == "2020-07-01T00:00:00+08:00"


def test_filters_narrow_and_say_that_nothing_is_proven_complete(shell: Shell, tmp_path: Path) -> None:
    counts = {}
    for name, words in {
        "actor": ("--actor", "person/admin"),
        "action": ("--action", "ListCredentials"),
        "unit": ("--unit", "u-1"),
        "subject": ("--subject", "source_unit_id=u-1"),
        "value": ("--subject", "u-1"),
        "nobody": ("--actor", "person/nobody"),
        "both": ("--actor", "person/admin", "--action", "CreateCredential"),
    }.items():
        path = tmp_path / f"{name}.jsonl"
        shell.done("export", path, *words)
        exit_code, document = shell.verified(path)
        assert (exit_code, document["is_right"], document["is_complete"]) == (0, True, False), document
        counts[name] = len(rows_of(path))
    assert counts["action"] == counts["unit"] == counts["subject"] == counts["value"] == 14
    assert counts["nobody"] == 0
    assert counts["both"] < counts["actor"]


class Broken:
    """Calls that break off after so many answers, for a while."""

    def __init__(self, stub: AccessRecordServiceStub, after: int, times: int) -> None:
        self._stub = stub
        self._after = after
        self.times = times

    def ExportAccessRecords(self, request: Any, *, metadata: Any) -> Any:
        call = self._stub.ExportAccessRecords(request, metadata=metadata)
        if not self.times:
            return call
        self.times -= 1
        return Cut(call, self._after)


class Unavailable(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "the connection is lost"

    def trailing_metadata(self) -> tuple[()]:
        return ()


class Cut:
    def __init__(self, call: Any, after: int) -> None:
        self._call = call
        self._after = after

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self._after):
            yield next(self._call)
        raise Unavailable

    def cancel(self) -> None:
        self._call.cancel()


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let exports break off after some answers, so many times, in small pages."""
    from cli.audit_log.export import AuditLogExport

    monkeypatch.setattr(access_export, "PAGE_RECORDS", 3)
    monkeypatch.setattr(export_module, "SAVE_RECORDS", 2)
    monkeypatch.setattr(export_module, "RETRY_SECONDS", 0.0)
    begin = AuditLogExport.__init__

    def start(after: int, times: int) -> None:
        def begin_broken(self: Any, path: Any, form: Any, order: Any, exporters: Any, *more: Any) -> None:
            broken: Any = {name: Broken(stub, after, times) for name, stub in exporters.items()}
            begin(self, path, form, order, broken, *more)

        monkeypatch.setattr(AuditLogExport, "__init__", begin_broken)

    return start


def test_a_connection_that_is_lost_is_made_again(
    shell: Shell, tmp_path: Path, breaking: Callable[[int, int], None]
) -> None:
    breaking(2, 4)
    path = tmp_path / "audit.jsonl"
    shell.done("export", path)
    rows = rows_of(path)
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert shell.verified(path)[1]["is_complete"]


def test_an_export_that_broke_off_goes_on_in_another_process(
    shell: Shell, tmp_path: Path, breaking: Callable[[int, int], None]
) -> None:
    path = tmp_path / "audit.csv"
    breaking(3, 1)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(export_module, "RETRIES_MAX", 0)
    exit_code, output = shell.run("export", path)
    monkey.undo()
    assert (exit_code, path.exists()) == (3, False)
    assert "--resume" in output
    partial = path.with_name("audit.csv.partial")
    held = partial.read_bytes()
    # As after a kill: something stands behind what was saved.
    partial.write_bytes(held + b"half a li")
    assert shell.run("export", path)[0] == 1
    assert shell.run("export", path, "--resume", "--actor", "person/admin")[0] == 1
    breaking(0, 0)
    shell.done("export", path, "--resume")
    assert path.read_bytes().startswith(held)
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_complete"]) == (0, True), document
    assert not partial.exists()


def test_an_export_that_broke_off_goes_on_another_day_with_the_window_that_it_began_with(
    shell: Shell, tmp_path: Path, breaking: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    breaking(3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "RETRIES_MAX", 0)
        assert shell.run("export", path)[0] == 3
    begun = json.loads(path.with_name("audit.jsonl.partial.json").read_text("utf-8"))
    breaking(0, 0)
    now = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr(audit_log_command, "_now", lambda: now)
    assert shell.run("export", path, "--resume", "--to", "2031-01-01")[0] == 1
    shell.done("export", path, "--resume")
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_complete"]) == (0, True), document
    assert (document["from"], document["to"]) == (begun["start"], begun["end"])


def test_an_export_whose_last_step_failed_is_finished_later(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        exit_code, output = shell.run("export", path)
    assert (exit_code, "No space left" in output, path.exists()) == (1, True, False), output
    shell.done("export", path, "--resume")
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_complete"]) == (0, True), document


def test_nothing_is_overwritten_and_nothing_is_resumed_that_is_not_there(shell: Shell, exported: Path) -> None:
    for words, told in (
        ((exported,), "is there already"),
        ((exported.with_name("x.csv"), "--resume"), "nothing to go"),
    ):
        exit_code, output = shell.run("export", *words)
        assert (exit_code, told in output) == (1, True), output


def test_who_is_no_auditor_is_refused(registry: RunningRegistry, shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "operator.token"
    other.write_text(f"{registry.operator_token}\n")
    path = tmp_path / "audit.jsonl"
    result = CliRunner().invoke(
        main, ["audit-log", "export", str(path), "--service", registry.address, "--token-file", str(other)]
    )
    assert result.exit_code == 1
    assert "PERMISSION_MISSING" in result.output
    assert not path.exists()


def test_the_newest_are_listed(shell: Shell) -> None:
    rows = json.loads(shell.done("list", "--limit", 3, "--json").splitlines()[-1])
    assert len(rows) == 3
    assert rows == sorted(rows, key=lambda row: row["time"], reverse=True)
    table = shell.done("list")
    assert "ListCredentials" in table
    assert json.loads(shell.done("list", "--actor", "person/nobody", "--json").splitlines()[-1]) == []


def test_of_several_services_the_one_that_is_away_is_named(shell: Shell) -> None:
    # Port 9 takes nobody.
    exit_code, output = shell.run("list", "--service", "127.0.0.1:9")
    assert (exit_code, "127.0.0.1:9: unreachable" in output) == (1, True), output


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "yesterday"),
        ("--to", "2020-01-01"),
        ("--time-zone", "Asia/Nowhere"),
        ("--from", "2999-01-01"),
        ("--from", "0001-01-01"),
        ("--to", "9999-12-31"),
    ],
)
def test_times_that_are_none_are_refused(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    extra = ("--from", "2021-01-01") if words == ("--to", "2020-01-01") else ()
    exit_code, output = shell.run("export", tmp_path / "audit.jsonl", *words, *extra)
    assert exit_code == 2, output
