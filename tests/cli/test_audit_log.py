"""`zhichao audit-log` against a real registry: what is exported, how it is taken up again, and what a check finds when
somebody has changed it.
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from cli.audit_log import export as export_module
from cli.audit_log.manifest import manifest_path
from cli.main import main
from services.journal import access_export
from tests.conftest import Databases
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.access.v1 import service_pb2 as access
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

CountyAndCity = tuple[RunningRegistry, RunningRegistry]


@pytest.fixture(scope="module")
def registry(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry whose audit log holds some records, of which some were begun by somebody cunning."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), "141025", datetime.now(UTC) - timedelta(hours=1))
        running.auditor_file = Path(directory) / "auditor.token"  # type: ignore[attr-defined]  # for the tests here
        running.auditor_file.write_text(  # type: ignore[attr-defined]  # as above
            running._issue(running.access, "auditor", "AUDITOR") + "\n"
        )
        look(running, 12)
        look(running, 1, purpose="=HYPERLINK(1)")
        look(running, 1, purpose='检查, "7"; ‘x’')
        yield running
        running.close()


def look(registry: RunningRegistry, count: int, purpose: str = "") -> None:
    """Leave access records."""
    from urllib.parse import quote

    metadata = [("x-purpose", quote(purpose))] if purpose else []
    for _ in range(count):
        registry.access.ListCredentials(
            access.ListCredentialsRequest(source_unit_id="u-1"), timeout=TIMEOUT_SECONDS, metadata=metadata
        )


class Shell:
    """The command line as the auditor uses it."""

    def __init__(self, registry: RunningRegistry) -> None:
        self._access = (
            *("--service", registry.address),
            *("--token-file", str(registry.auditor_file)),  # type: ignore[attr-defined]  # see the fixture
        )

    def run(self, command: str, *words: object) -> tuple[int, str]:
        options = () if command == "verify" else self._access
        result = CliRunner().invoke(main, ["audit-log", command, *map(str, words), *options])
        return result.exit_code, result.output

    def done(self, command: str, *words: object) -> str:
        exit_code, output = self.run(command, *words)
        assert exit_code == 0, output
        return output

    def verified(self, path: Path, *words: object) -> tuple[int, Any]:
        exit_code, output = self.run("verify", path, "--json", *words)
        return exit_code, json.loads(output.splitlines()[-1])


@pytest.fixture
def shell(registry: RunningRegistry) -> Shell:
    return Shell(registry)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def exported(shell: Shell, tmp_path: Path) -> Path:
    """Export everything; return the file."""
    path = tmp_path / "audit.jsonl"
    shell.done("export", path)
    return path


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
    purposes = [row[titles.index("事由 purpose")] for row in rows]
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
            broken = {name: Broken(stub, after, times) for name, stub in exporters.items()}
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


@pytest.mark.parametrize(
    "words",
    [("--from", "yesterday"), ("--to", "2020-01-01"), ("--time-zone", "Asia/Nowhere"), ("--from", "2999-01-01")],
)
def test_times_that_are_none_are_refused(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    extra = ("--from", "2021-01-01") if words[0] == "--to" else ()
    exit_code, output = shell.run("export", tmp_path / "audit.jsonl", *words, *extra)
    assert exit_code == 2, output


# What a check finds


class Tampered:
    """An exported file that somebody changes, and then mends the manifest so that only the proofs can tell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_bytes().splitlines(keepends=True)
        self.manifest = json.loads(manifest_path(path).read_text("utf-8"))

    @property
    def log(self) -> dict[str, Any]:
        return self.manifest["logs"][0]  # type: ignore[no-any-return]  # as the manifest is made

    def write(self) -> None:
        content = b"".join(self.lines)
        self.path.write_bytes(content)
        self.manifest |= {
            "sha256": hashlib.sha256(content).hexdigest(),
            "byte_count": len(content),
            "record_count": len(self.lines),
        }
        self.log["row_count"] = self.log["record_count"] = len(self.lines)
        manifest_path(self.path).write_text(json.dumps(self.manifest), "utf-8")


def take_one_out(file: Tampered) -> None:
    del file.lines[5]


def take_the_first_out(file: Tampered) -> None:
    del file.lines[0]


def take_the_last_out(file: Tampered) -> None:
    del file.lines[-1]


def take_the_last_out_and_close_with_it(file: Tampered) -> None:
    row = json.loads(file.lines.pop())
    file.log["after"] = {"sequence": row["sequence"], "entry": row["entry"]}
    file.log["proven_sequence"] = row["sequence"]


def leave_the_end_open(file: Tampered) -> None:
    del file.lines[-3:]
    file.log["after"] = None
    file.log["proven_sequence"] = json.loads(file.lines[-1])["sequence"]


def swap_two(file: Tampered) -> None:
    file.lines[3], file.lines[4] = file.lines[4], file.lines[3]


def repeat_one(file: Tampered) -> None:
    file.lines.insert(3, file.lines[3])


def change_a_column(file: Tampered) -> None:
    row = json.loads(file.lines[2])
    row["actor"] = "person/somebody-else"
    file.lines[2] = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def forge_an_entry(file: Tampered) -> None:
    import base64

    from tests.registry.test_access_export import record_in
    from zhichao.journal.v1 import entry_pb2

    row = json.loads(file.lines[2])
    entry = entry_pb2.Entry.FromString(base64.b64decode(row["entry"]))
    record = record_in(base64.b64decode(row["entry"]))
    record.principal = row["actor"] = "person/somebody-else"
    entry.payload = record.SerializeToString()
    row["entry"] = base64.b64encode(entry.SerializeToString()).decode()
    file.lines[2] = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def sign_with_nothing(file: Tampered) -> None:
    note = file.log["checkpoint"].split("\n")
    note[1] = str(int(note[1]) + 1)
    file.log["checkpoint"] = "\n".join(note)


def claim_another_platform(file: Tampered) -> None:
    file.log["platform"] = "141026"


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (take_one_out, "record 6 is missing"),
        (take_the_first_out, "record 1 is missing"),
        (take_the_last_out, "is missing: record"),
        (take_the_last_out_and_close_with_it, "does not lie in the log"),
        (leave_the_end_open, "does not lie in the log"),
        (swap_two, "record 4 is missing"),
        (repeat_one, "record 5 is missing: record 4"),
        (change_a_column, "record 3 says something else than its entry: actor"),
        (forge_an_entry, "record 3 is not the one that record 4 follows"),
        (sign_with_nothing, "is not signed with the key of entry 1"),
        (claim_another_platform, "entry 1 begins the registry log of 141025"),
    ],
)
def test_what_was_changed_is_found(shell: Shell, exported: Path, tamper: Callable[[Tampered], None], told: str) -> None:
    file = Tampered(exported)
    tamper(file)
    file.write()
    exit_code, document = shell.verified(exported)
    findings = [*document["findings"], *document["logs"][0]["findings"]]
    assert exit_code == 1
    assert [one for one in findings if told in one], findings


def test_a_window_that_is_claimed_to_be_longer_is_found(shell: Shell, tmp_path: Path) -> None:
    everything = tmp_path / "all.jsonl"
    shell.done("export", everything)
    rows = rows_of(everything)
    for option, key in (("--from", "from"), ("--to", "to")):
        path = tmp_path / f"{key}.jsonl"
        shell.done("export", path, option, rows[6]["time"])
        file = Tampered(path)
        file.manifest["from"] = "2020-01-01T00:00:00+08:00"
        file.manifest["to"] = "2030-01-01T00:00:00+08:00"
        file.write()
        exit_code, document = shell.verified(path)
        assert exit_code == 1
        assert ["lies within its time" in one for one in document["logs"][0]["findings"]] == [True]


@pytest.mark.parametrize("change", [b"x", b"{}\n", b"[]\n", b"\xff\n"])
def test_bytes_that_are_no_record_are_found(shell: Shell, exported: Path, change: bytes) -> None:
    exported.write_bytes(exported.read_bytes() + change)
    exit_code, document = shell.verified(exported)
    assert exit_code == 1
    assert any("SHA-256" in one for one in document["findings"])


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"form": "zhichao-audit-log/9"}', '{"form": "zhichao-audit-log/1"}']
)
def test_a_manifest_that_is_none_is_told(shell: Shell, exported: Path, text: str) -> None:
    manifest_path(exported).write_text(text, "utf-8")
    exit_code, output = shell.run("verify", exported)
    assert exit_code == 2
    assert "manifest" in output


def test_a_file_without_manifest_cannot_be_looked_at(shell: Shell, exported: Path) -> None:
    manifest_path(exported).unlink()
    assert shell.run("verify", exported)[0] == 2


def test_the_platform_of_today_confirms_the_log_of_that_time(
    registry: RunningRegistry, shell: Shell, exported: Path
) -> None:
    look(registry, 2)
    token = str(registry.auditor_file)  # type: ignore[attr-defined]  # see the fixture
    exit_code, document = shell.verified(exported, "--against", registry.address, "--token-file", token)
    assert (exit_code, document["logs"][0]["findings"]) == (0, [])


def test_another_platform_does_not(
    databases: Databases, registry: RunningRegistry, shell: Shell, exported: Path, socket_directory: Path
) -> None:
    # The same code on another database: its log has another key.
    other = RunningRegistry(databases, socket_directory, "141025", datetime.now(UTC))
    try:
        look(other, registry.size())
        token = socket_directory / "auditor.token"
        token.write_text(other._issue(other.access, "auditor", "AUDITOR") + "\n")
        exit_code, document = shell.verified(exported, "--against", other.address, "--token-file", token)
    finally:
        other.close()
    assert exit_code == 1
    findings = document["logs"][0]["findings"]
    assert any("begun with another key" in one for one in findings)
    assert any("was another one at" in one for one in findings)
