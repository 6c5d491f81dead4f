"""`zhichao up` and the process that runs it: starting, refusing, supervising, stopping. Services are stand-ins."""

import contextlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from cli import platform_state
from cli.certificates import make_certificates
from cli.main import main
from cli.platform_layout import reserve_any
from cli.platform_process import PlatformProcess, PlatformProcessError
from cli.postgres import EmbeddedPostgres, processes
from cli.up_options import ExitCode
from cli.up_signing_key import SigningKeyError, ensure
from tests.waiting import wait_until

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
# Stand-ins issue no credentials.
NO_CREDENTIALS = ("--no-local-credentials",)
SECONDS_MAX = 60.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., PlatformProcess]]:
    """Make platforms with stand-in services; whatever still runs at the end is killed."""
    made: list[PlatformProcess] = []

    def make_platform(**options: object) -> PlatformProcess:
        values = {"platform": "141025", "data_directory": tmp_path / "data", "command": STAND_IN, **options}
        values["arguments"] = NO_CREDENTIALS
        made.append(PlatformProcess(**values))  # type: ignore[arg-type]  # tests name the options
        return made[-1]

    yield make_platform
    for platform in made:
        platform.kill_everything()


Make = Callable[..., PlatformProcess]


@pytest.mark.parametrize("is_split", [False, True])
def test_serves_and_stops(make: Make, *, is_split: bool) -> None:
    platform = make(is_split=is_split).start()
    state = platform.state
    assert state.phase == "serving"
    assert list(state.addresses) == ["registry", "weighing", "video", "enforcement", "relay"]
    assert len({process.pid for process in state.processes.values()}) == (5 if is_split else 1)
    assert platform.terminate() == ExitCode.STOPPED
    after = platform.state
    assert (after.phase, after.processes, after.postgres_pid, after.object_server_pid) == ("stopped", {}, None, None)
    assert platform_state.find_running(platform.data_directory) is None
    for process in state.processes.values():
        assert processes.identity(process.pid) is None
    for pid in (state.postgres_pid, state.object_server_pid):
        assert pid is not None
        assert processes.identity(pid) is None


def test_a_running_platform_is_found_by_its_directory(make: Make) -> None:
    with make() as platform:
        found = platform_state.find_running(platform.data_directory)
        assert found == platform.state
        assert found is not None
        assert found.pid == platform.pid
        ready = json.loads((platform.data_directory / "ready.json").read_text("utf-8"))
        assert ready["addresses"] == found.addresses


def test_keeps_data_key_and_ports_over_a_restart(make: Make) -> None:
    platform = make().start()
    key = (platform.data_directory / "keys/signing.pem").read_bytes()
    with psycopg.connect(platform.database_url("weighing")) as connection:
        connection.execute("CREATE TABLE weighed AS SELECT 1")
    before = platform.addresses
    platform.stop()
    platform.start()
    assert platform.addresses == before
    assert (platform.data_directory / "keys/signing.pem").read_bytes() == key
    with psycopg.connect(platform.database_url("weighing")) as connection:
        assert connection.execute("SELECT count(*) FROM weighed").fetchone() == (1,)


def test_a_dead_service_is_restarted_alone(make: Make) -> None:
    with make(is_split=True) as platform:
        before = platform.state
        former = platform.kill_service("weighing")
        platform.wait_restarted("weighing", former)
        after = platform.state
        assert after.processes["registry"] == before.processes["registry"]
        assert after.processes["relay"] == before.processes["relay"]
        assert "service_process_died" in platform.log_text()


def test_a_dead_database_is_restarted(make: Make) -> None:
    with make() as platform:
        former = platform.kill_postgres()
        platform.wait_postgres_restarted(former)
        with psycopg.connect(platform.database_url("registry")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_own_evidence_store_is_restarted_when_it_dies(make: Make) -> None:
    with make() as platform:
        former = platform.object_server_pid
        assert former is not None
        os.kill(former, signal.SIGKILL)
        wait_until(
            lambda: platform.object_server_pid not in (None, former),
            "the evidence store was not restarted",
            SECONDS_MAX,
        )


def test_the_evidence_store_is_reached_with_keys_for_their_owner_only(make: Make) -> None:
    with make() as platform:
        assert platform.state.object_endpoint == f"http://127.0.0.1:{platform.base_port + 8}"
        keys = list((platform.data_directory / "secrets").glob("object-store-*.key"))
        assert [stat.S_IMODE(path.stat().st_mode) for path in keys] == [0o600, 0o600]


def test_a_given_evidence_store_is_used_instead(make: Make) -> None:
    with make(environment={"ZHICHAO_VIDEO_S3_ENDPOINT": "http://127.0.0.1:9"}) as platform:
        state = platform.state
        assert (state.object_endpoint, state.object_server_pid) == ("", None)
        assert not (platform.data_directory / "object-store").exists()


def test_a_platform_without_the_video_service_has_no_evidence_store(make: Make) -> None:
    with make(services=("registry", "weighing")) as platform:
        assert platform.object_server_pid is None


def test_nothing_outlives_a_killed_platform(make: Make) -> None:
    platform = make(is_split=True).start()
    platform.kill()
    assert platform_state.find_running(platform.data_directory) is None
    platform.start()


def test_starts_after_everything_was_killed(make: Make) -> None:
    platform = make(is_split=True).start()
    platform.kill_everything()
    platform.start()
    assert platform.state.phase == "serving"


def test_left_over_services_are_ended_first(make: Make, tmp_path: Path) -> None:
    platform = make().start()
    platform.stop()
    # A process that the state file says is the platform's, still there after it.
    left_over = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = processes.identity(left_over.pid)
    assert identity is not None
    state = json.loads((tmp_path / "data/platform.json").read_text("utf-8"))
    state.update(phase="serving", processes={"weighing": {"pid": left_over.pid, "identity": identity}})
    (tmp_path / "data/platform.json").write_text(json.dumps(state), "utf-8")
    platform.start()
    assert left_over.wait(SECONDS_MAX) == -signal.SIGTERM


def test_ends_with_the_process_that_started_it(make: Make, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from cli.platform_process import PlatformProcess;"
        f"platform = PlatformProcess('141025', Path({str(tmp_path / 'data')!r}), command={STAND_IN!r},"
        f" arguments={NO_CREDENTIALS!r}).start();"
        "print(platform.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    wait_until(lambda: processes.identity(pid) is None, "the platform ended", SECONDS_MAX)
    state = platform_state.read(tmp_path / "data")
    assert state is not None
    assert state.phase == "stopped"


def test_the_same_directory_twice_is_refused(make: Make) -> None:
    with make() as platform, pytest.raises(PlatformProcessError, match=f"runs on .*process {platform.pid}"):
        make(log_file=platform.data_directory / "second.log").start()


def test_a_directory_of_another_platform_is_refused(make: Make) -> None:
    make().start().stop()
    other = make(platform="141000")
    with pytest.raises(PlatformProcessError, match="holds platform 141025, not 141000"):
        other.start()


def test_a_taken_port_is_named_before_anything_starts(make: Make) -> None:
    base_port, reservation = reserve_any("127.0.0.1")
    with reservation, socket.socket() as taken:
        taken.bind(("127.0.0.1", base_port + 2))
        taken.listen()
        reservation.close()
        platform = make(base_port=base_port)
        with pytest.raises(PlatformProcessError, match=rf":{base_port + 2} \(weighing, from --port {base_port}\)"):
            platform.start()
        assert not (platform.data_directory / "postgres").exists()


def test_two_platforms_on_one_port_are_refused(make: Make, tmp_path: Path) -> None:
    with make() as platform:
        second = make(base_port=platform.base_port, data_directory=tmp_path / "second")
        with pytest.raises(PlatformProcessError, match="probably by another platform"):
            second.start()


def test_a_given_database_is_used_instead(make: Make, tmp_path: Path) -> None:
    names = ("registry", "weighing", "video", "enforcement")
    with EmbeddedPostgres(tmp_path / "given", databases=names) as server:
        given = {f"ZHICHAO_{name.upper()}_DATABASE_URL": server.url(name) for name in names}
        with make(environment=given) as platform:
            assert platform.state.database_urls == {}
            assert platform.postgres_pid is None
            assert not (platform.data_directory / "postgres").exists()
        with make(environment={"ZHICHAO_REGISTRY_DATABASE_URL": server.url("registry")}) as platform:
            assert list(platform.state.database_urls) == ["weighing", "video", "enforcement"]


def test_a_service_that_cannot_start_ends_the_start(make: Make) -> None:
    platform = make(environment={"STAND_IN_FAILS": "weighing"})
    with pytest.raises(PlatformProcessError, match="ended with status 6"):
        platform.start()
    assert platform.state.phase == "stopped"


def test_the_terminals_interrupt_stops_in_order(tmp_path: Path) -> None:
    """Ctrl-C goes to every process of the terminal's foreground group; only `up` may hear it."""
    terminal, other_end = pty.openpty()
    # The other end becomes the controlling terminal of a session of its own.
    take_terminal = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    arguments = ["up", "--platform", "141025", "--data", str(tmp_path / "data"), "--port", "0", *NO_CREDENTIALS]
    process = subprocess.Popen(
        [sys.executable, "-c", take_terminal, *STAND_IN, *arguments],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        start_new_session=True,
    )
    os.close(other_end)
    shown = b""
    try:
        while "停止".encode() not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):
            # The end of a terminal is an error on Linux.
            while more := os.read(terminal, 4096):
                shown += more
    finally:
        os.close(terminal)
    status = process.wait(SECONDS_MAX)
    text = shown.decode("utf-8", "replace")
    assert status == ExitCode.STOPPED, text
    assert "stop_requested" in text
    assert "SIGINT" in text
    assert "postgres_died" not in text
    assert "service_process_died" not in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--platform", "1410"], "six-digit division code"),
        (["--platform", "141025", "--listen", "0.0.0.0"], "takes TLS: give --tls DIR"),  # noqa: S104 - refused, never listened on
        (["--platform", "141025", "--services", "weighing"], "weighing needs registry"),
        (
            ["--platform", "141025", "--services", "wheighing"],
            "wheighing: choose from registry, weighing, video, enforcement, relay",
        ),
        (["--platform", "141025", "--services", "registry", "--upstream", "127.0.0.1:7806"], "needs the service relay"),
        (["--platform", "141025", "--upstream", "city"], "give host:port"),
        (["--platform", "141025", "--upstream", "127.0.0.1:7807"], "takes a certificate of this platform: give --tls"),
        (["--platform", "141025", "--tls", "."], "there is no file"),
        (["--platform", "141025", "--listen", "localhoost"], "give an IP address"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["up", "--data", str(tmp_path / "data"), *arguments])
    assert result.exit_code == ExitCode.USAGE
    assert text in " ".join(result.output.split())
    assert not (tmp_path / "data").exists()


def test_the_certificate_of_another_platform_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path / "pki", ["141025"])["141025"]
    result = CliRunner().invoke(
        main, ["up", "--platform", "141026", "--data", str(tmp_path / "data"), "--tls", str(tls)]
    )

    text = " ".join(result.output.split())
    assert result.exit_code == ExitCode.USAGE
    assert "must carry the URI name spiffe://zhichao/platform/141026" in text
    assert f"`zhichao pki show {tls / 'tls.crt'}` shows what it holds" in text
    assert not (tmp_path / "data").exists()


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "pki", ["141025", "141026"])
    (made["141025"] / "tls.key").write_bytes((made["141026"] / "tls.key").read_bytes())
    result = CliRunner().invoke(
        main, ["up", "--platform", "141025", "--data", str(tmp_path / "data"), "--tls", str(made["141025"])]
    )

    assert result.exit_code == ExitCode.USAGE
    assert str(made["141025"] / "tls.key") in result.output
    assert not (tmp_path / "data").exists()


def test_help_names_every_exit_status() -> None:
    result = CliRunner().invoke(main, ["up", "--help"])
    assert result.exit_code == 0
    assert all(f"{code:d}  " in result.output for code in ExitCode)


def test_a_command_that_is_not_there_does_not_break_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli import main as module

    monkeypatch.setitem(module.COMMANDS, "absent", module.LazyCommand("cli.absent.command", "absent", ""))
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "up " in result.output
    assert "absent" not in result.output
    assert CliRunner().invoke(main, ["absent"]).exit_code == 2


def test_the_signing_key_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    ensure(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_bytes()
    ensure(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_key_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_text("not a key", "utf-8")
    with pytest.raises(SigningKeyError, match="is not a PEM file"):
        ensure(path)
    assert path.read_text("utf-8") == "not a key"
