"""`zhichao relay`: what it shows of both directions, and ending a recovery by hand."""

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.platform_process import PlatformProcess
from cli.relay_command import relay
from cli.relay_display import bandwidth_text, evidence_text, link_report
from cli.relay_figures import BandwidthFigures
from cli.relay_link import link_figures
from cli.status_figures import PlatformFigures, as_document
from cli.verify import verify
from zhichao.relay.v1 import relay_pb2 as pb

NOW = datetime.now(UTC)
COUNTY, CITY = "141025", "141000"


def answer() -> pb.GetRelayStatusResponse:
    """Make what a city's relay says that has a link upwards and one from below, with all that can be told."""
    made = pb.GetRelayStatusResponse(
        platform=CITY,
        upstream_address="192.0.2.10:7707",
        upstream_platform="140000",
        state=pb.LINK_STATE_STALLED,
        protocol_version=2,
        pushed_bytes=123_456,
    )
    made.state_time.FromDatetime(NOW - timedelta(minutes=3))
    made.progress.add(stream="weighing", origin=COUNTY, local_size=900, upstream_size=400, lag_records=500)
    made.progress.add(stream="registry", origin=CITY, local_size=7, is_recovering=True)
    made.follows.add(stream="registry", state=pb.FOLLOW_STATE_FOLLOWING)
    made.follows.add(stream="weighing", state=pb.FOLLOW_STATE_WAITING, detail="the weighing service stops")
    came = made.addressed_progress.add(
        stream="registry", origin="140000", through_sequence=12_345, upstream_sequence=12_400
    )
    came.last_batch_time.FromDatetime(NOW - timedelta(hours=2))
    made.addressed_progress.add(
        stream="registry", origin="100000", refusal_reason="HISTORY_MISMATCH", refusal_message="two histories"
    )
    alarm = made.alarms.add(log_count=2)
    alarm.logs.add(stream="weighing", origin=COUNTY, cause=pb.STALL_CAUSE_NO_ANSWER, detail="no answer for 70 s")
    made.alarms.add(is_downward=True, log_count=1).logs.add(stream="weighing", cause=pb.STALL_CAUSE_UPSTREAM_SERVICE)
    made.bandwidth.schedule = "08:00-20:00=256KiB/s"
    made.bandwidth.bytes_per_second_max = 256 * 1024
    made.bandwidth.is_waiting = True
    made.bandwidth.change_time.FromDatetime(datetime(2026, 11, 23, 12, 0, tzinfo=UTC))
    evidence = made.evidence_progress
    evidence.state = pb.FOLLOW_STATE_FOLLOWING
    evidence.waiting_objects, evidence.waiting_bytes, evidence.declined_objects = 1_234, 3 << 30, 17
    evidence.open_push_count, evidence.pushed_objects, evidence.is_waiting = 3, 56_789, True
    evidence.last_error = "the evidence store is away"
    evidence.last_object_time.FromDatetime(NOW - timedelta(hours=4))
    below = made.downstream_links.add(
        platform=COUNTY, protocol_version=2, followed_streams=["registry", "weighing"], received_objects=4_321
    )
    below.addressed_sent.add(stream="registry", origin="140000", asked_sequence=10_000, sent_sequence=12_345)
    return made


def shown(width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(link_report(PlatformFigures(CITY, NOW, link=link_figures(answer()))))
    return console.export_text()


def test_both_directions_are_shown() -> None:
    text = shown()
    for part in (
        "What comes down 下行",
        "12,345",
        "12,400",
        "2 h ago",
        "HISTORY_MISMATCH: two histories",
        "waiting 等待",
        "Sent down 已下发",
        "10,000",
        "protocol 协议版本",
        "256.0 KiB/s now 当前限速 until 20:00, entries wait for it",
    ):
        assert part in text, part
    assert max(map(len, text.splitlines())) <= 80


def test_evidence_on_its_way_is_shown() -> None:
    text = shown(300)
    for part in (
        "evidence 证据文件",
        "1,234 objects, 3,072.0 MiB wait 待传, 3 on their way 传输中, 17 not here yet 本级尚无",
        "56,789 pushed 已传, last 最近 4 h ago",
        "waits for entries or the cap",
        "the evidence store is away",
        "4,321",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("state", "detail", "told"),
    [
        (pb.FOLLOW_STATE_NOT_FOLLOWED, "", "not followed 未跟踪"),
        (pb.FOLLOW_STATE_WAITING, "the video service stops", "waiting 等待 the video service stops"),
        (pb.FOLLOW_STATE_FOLLOWING, "", "nothing waits 无待传"),
    ],
)
def test_how_evidence_is_followed_is_told(state: pb.FollowState.ValueType, detail: str, told: str) -> None:
    made = answer()
    made.evidence_progress.Clear()
    made.evidence_progress.state = state
    made.evidence_progress.detail = detail
    evidence = link_figures(made).evidence
    assert evidence is not None
    assert told in evidence_text(evidence).plain


def test_alarms_and_recoveries_are_told() -> None:
    # Words stay together on a wide screen.
    text = shown(200)
    assert f"{CITY} ALARM: nothing goes up 上行停滞: 2 logs, weighing {COUNTY}: no answer from above" in text
    assert f"{CITY} ALARM: nothing comes down 下行停滞: 1 logs, weighing: the service above is away" in text
    assert f"{CITY} registry: restored from a backup, nothing is written" in text


def test_everything_is_in_the_document() -> None:
    link = json.loads(json.dumps(as_document(PlatformFigures(CITY, NOW, link=link_figures(answer())))))["link"]
    assert link["alarms"][0]["logs"][0]["cause"] == "NO_ANSWER"
    assert link["follows"][1] == {"stream": "weighing", "state": "WAITING", "detail": "the weighing service stops"}
    assert link["addressed"][0]["through_sequence"] == 12_345
    assert link["downstream"][0]["sent"][0]["sent_sequence"] == 12_345
    assert link["bandwidth"]["bytes_per_second_max"] == 256 * 1024
    assert [one["is_recovering"] for one in link["progress"]] == [False, True]


@pytest.mark.parametrize(
    ("cap", "text"),
    [(None, "unlimited now 当前不限速"), (0, "paused now 当前暂停上报"), (1_536, "1.5 KiB/s now 当前限速")],
)
def test_the_cap_in_force_is_told(cap: int | None, text: str) -> None:
    assert bandwidth_text(BandwidthFigures("x", cap, None, is_waiting=False)).plain == f"{text} (x)"


# A restored platform


@pytest.fixture(scope="module")
def alone() -> Iterator[PlatformProcess]:
    """Run a platform without upstream."""
    directory = Path(tempfile.mkdtemp(prefix="zhichao-test-relay-"))
    try:
        with PlatformProcess(COUNTY, directory / COUNTY) as process:
            yield process
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def invoke(*arguments: str, answer_yes: bool = False) -> tuple[int, str]:
    result: Any = CliRunner().invoke(relay, arguments, input="y\n" if answer_yes else "n\n")
    return result.exit_code, result.output


def mark(platform: PlatformProcess, service: str) -> None:
    """Mark a log as `zhichao backup restore` does."""
    with psycopg.connect(platform.database_url(service)) as connection:
        connection.execute("UPDATE journal_logs SET is_recovering = true WHERE is_own")


def test_a_recovery_is_ended_by_a_person_where_nobody_can_be_asked(alone: PlatformProcess) -> None:
    named = ("confirm-restored", "--data", str(alone.data_directory))
    assert invoke(*named) == (0, "nothing recovers 没有待核对的日志\n")
    mark(alone, "weighing")
    mark(alone, "registry")
    code, output = invoke(*named)
    assert code == 1
    assert "registry (" in output
    assert "weighing (1 entries" in output
    code, output = invoke(*named, answer_yes=True)
    assert code == 0, output
    assert invoke(*named) == (0, "nothing recovers 没有待核对的日志\n")


def test_what_was_restored_and_waits_to_be_compared_can_be_verified(alone: PlatformProcess) -> None:
    """It gives out no entry, which it would have to write down; the bytes are read from its database."""
    for service in ("registry", "weighing", "enforcement"):
        mark(alone, service)
    try:
        shown = CliRunner().invoke(verify, [str(alone.data_directory), "--json"])
        assert shown.exit_code == 0, shown.output
    finally:
        invoke("confirm-restored", "--data", str(alone.data_directory), "--yes")


def test_a_platform_of_this_machine_may_be_named_by_address(
    alone: PlatformProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of one of its people is found beside it, as when it is named by directory."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / COUNTY).symlink_to(alone.data_directory)
    monkeypatch.chdir(tmp_path)

    shown = CliRunner().invoke(verify, [alone.address("weighing"), "--json"])

    assert shown.exit_code == 0, shown.output


def test_of_several_services_the_one_that_is_away_is_named(alone: PlatformProcess) -> None:
    token_file = str(alone.data_directory / "secrets" / "operator.token")
    # Port 9 takes nobody.
    services = ("--service", alone.address("weighing"), "--service", "127.0.0.1:9")
    code, output = invoke("parked", *services, "--token-file", token_file)
    assert (code, "127.0.0.1:9: unreachable" in output) == (1, True), output


def test_the_answer_can_be_given_beforehand(alone: PlatformProcess) -> None:
    mark(alone, "weighing")
    code, output = invoke("confirm-restored", "--data", str(alone.data_directory), "--yes", "--json")
    # Who has confirmed a recovery is written down, so the log has grown since it began.
    assert (code, list(json.loads(output))) == (0, ["weighing"])


def test_the_relay_must_be_known_to_tell_whether_there_is_an_upstream(alone: PlatformProcess) -> None:
    mark(alone, "weighing")
    token_file = str(alone.data_directory / "secrets" / "operator.token")
    named = ("confirm-restored", "--service", alone.address("weighing"), "--token-file", token_file, "--yes")
    code, output = invoke(*named)
    assert code == 1
    assert "the relay must be named too" in output
    code, output = invoke(*named, "--upstream-is-lost")
    assert code == 0, output
