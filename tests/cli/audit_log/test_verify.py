"""`zhichao audit-log verify`: what a check finds when somebody has changed an exported file."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from cli.audit_log.check import check_file
from cli.audit_log.manifest import manifest_path, read_manifest
from cli.audit_log.report import show_check
from cli.terminal import Console
from tests.cli.audit_log.shell import Shell, look, rows_of
from tests.conftest import Databases
from tests.registry.harness import RunningRegistry
from tests.registry.test_access_export import record_in
from zhichao.journal.v1 import entry_pb2

DEEP = "[" * 100_000
"""More brackets than a parser goes into."""


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


def test_a_copy_of_which_a_filter_takes_everything_is_as_exported(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "nobody.jsonl"
    shell.done("export", path, "--actor", "person/nobody")
    manifest = json.loads(manifest_path(path).read_text("utf-8"))
    # In a copy, as a platform above holds it, nothing stands behind the newest record that had come up.
    manifest["logs"][0] |= {"after": None, "proven_path": []}
    manifest_path(path).write_text(json.dumps(manifest), "utf-8")
    exit_code, document = shell.verified(path)
    assert (exit_code, document["is_right"], document["is_complete"]) == (0, True, False), document


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


def test_what_nothing_closes_is_complete_up_to_its_newest_record_only(exported: Path, shell: Shell) -> None:
    assert shell.done("verify", exported).rstrip().endswith("内容一致且完整")
    manifest = read_manifest(manifest_path(exported))
    result = check_file(exported, manifest)
    result.logs[0].closed_at = None
    shown = StringIO()
    show_check(Console(file=shown, width=500), exported, manifest, result)
    assert shown.getvalue().rstrip().endswith("up to the newest record held of 以下日志截至其最新记录: registry 141025")


@pytest.mark.parametrize("key", ["from", "to"])
@pytest.mark.parametrize("time", ["", "2020-01-01T00:00:00", None])
def test_a_window_that_nothing_can_be_missing_from_is_none(
    shell: Shell, tmp_path: Path, key: str, time: str | None
) -> None:
    path = tmp_path / "some.jsonl"
    shell.done("export", path, "--from", "2020-01-01", "--to", "2020-06-30")
    file = Tampered(path)
    file.manifest[key] = time
    file.write()
    exit_code, output = shell.run("verify", path)
    assert (exit_code, "no manifest of an audit log" in output) == (2, True), output


@pytest.mark.parametrize("change", [b"x", b"{}\n", b"[]\n", b"\xff\n", DEEP.encode()])
def test_bytes_that_are_no_record_are_found(shell: Shell, exported: Path, change: bytes) -> None:
    exported.write_bytes(exported.read_bytes() + change)
    exit_code, document = shell.verified(exported)
    assert exit_code == 1
    assert any("SHA-256" in one for one in document["findings"])


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", DEEP, '{"form": "zhichao-audit-log/9"}', '{"form": "zhichao-audit-log/1"}']
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
    exit_code, document = shell.verified(exported, "--against", registry.address, "--token-file", shell.token_file)
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
