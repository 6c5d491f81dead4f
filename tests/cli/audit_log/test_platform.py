"""`zhichao audit-log` on a whole platform: the records of every service, with the token of the machine's auditor."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.platform_process import PlatformProcess
from services.common.rpc_client import connect
from tests.cli.audit_log.shell import rows_of
from zhichao.enforcement.v1 import service_pb2 as enforcement
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

WITH_JOURNAL = ["registry", "weighing", "video", "enforcement"]


@pytest.fixture(scope="module")
def platform() -> Iterator[PlatformProcess]:
    directory = Path(tempfile.mkdtemp(prefix="zhichao-test-audit-"))
    with PlatformProcess("141025", directory / "141025") as process:
        yield process
    shutil.rmtree(directory, ignore_errors=True)


def done(*words: object) -> str:
    result = CliRunner().invoke(main, ["audit-log", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_all_services_are_exported_and_confirmed_by_the_platform(platform: PlatformProcess, tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    done("export", path, "--data", platform.data_directory, "--purpose", "测评")
    document = json.loads(done("verify", path, "--against", platform.data_directory, "--json").splitlines()[-1])
    assert document["is_complete"]
    assert [log["service"] for log in document["logs"]] == WITH_JOURNAL
    # The next export holds the one before, of each service.
    again = tmp_path / "again.jsonl"
    done("export", again, "--data", platform.data_directory)
    exports = [row for row in rows_of(again) if row["action"].endswith("/ExportAccessRecords")]
    assert [(row["service"], row["actor"].partition("/")[0], row["purpose"]) for row in exports] == [
        (service, "person", "测评") for service in WITH_JOURNAL
    ]


def test_an_export_by_origin_names_what_is_held(platform: PlatformProcess, tmp_path: Path) -> None:
    data = ("--data", platform.data_directory)
    done("export", tmp_path / "own.jsonl", "--origin", "141025", *data)
    done("export", tmp_path / "all.jsonl", "--all-origins", *data)
    wrong = CliRunner().invoke(
        main, ["audit-log", "export", str(tmp_path / "x.jsonl"), "--origin", "141026", *map(str, data)]
    )
    assert wrong.exit_code == 2
    assert "141026: no log of it is held there" in wrong.output


def test_who_was_refused_is_there_after_a_restart_of_the_service(platform: PlatformProcess, tmp_path: Path) -> None:
    with connect(platform.address("enforcement")) as channel, pytest.raises(grpc.RpcError):
        EnforcementServiceStub(channel).ListNotices(enforcement.ListNoticesRequest(), timeout=10)
    platform.terminate()
    platform.start()
    path = tmp_path / "refused.jsonl"
    done("export", path, "--data", platform.data_directory)
    refused = [row for row in rows_of(path) if row["outcome"] != "answered"]
    assert [(row["service"], row["outcome"], row["attempt_count"], row["peer_address"]) for row in refused] == [
        ("enforcement", "NO_CREDENTIALS", 1, "ipv4:127.0.0.1")
    ]
