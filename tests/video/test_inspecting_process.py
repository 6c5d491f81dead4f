"""Processes that look at uploads may die, hang, eat memory or lie: a file is refused, and the next one is looked at."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.video import inspecting_process
from services.video.inspecting_process import InspectingProcesses
from services.video.inspecting_protocol import PACKET_BYTES_MAX
from services.video.media_types import JPEG, MP4, ContentRefused, Inspection, InspectionUnavailable, MediaFacts
from tests.video.media_files import clip, jpeg
from tests.video.misbehaving_worker import SOUND
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[InspectingProcesses]:
    """Run processes whose decoder does what files tell it."""
    monkeypatch.setattr(inspecting_process, "WORKER", "tests.video.misbehaving_worker")
    running = InspectingProcesses()
    yield running
    running.stop()


@pytest.fixture
def honest() -> Iterator[InspectingProcesses]:
    running = InspectingProcesses()
    yield running
    running.stop()


def look(processes: InspectingProcesses, word: str) -> Inspection:
    content = word.encode()
    return processes.inspect_ranges(lambda at, length: content[at : at + length], len(content), JPEG)


def answer(**values: object) -> str:
    facts: dict[str, Any] = dict.fromkeys(("width_px", "height_px", "duration_milliseconds", "page_count"))
    facts |= {"video_codec": "", "device_time": None} | values.pop("facts", {})  # type: ignore[operator]  # of tests
    text = json.dumps({"number": 0, "content_type": JPEG, "facts": facts} | values)
    return "say " + text.replace('"number": 0', '"number": NUMBER')


def test_an_answer_that_is_one_is_taken(processes: InspectingProcesses) -> None:
    assert look(processes, answer(facts={"width_px": 1, "height_px": 1})) == SOUND


@pytest.mark.parametrize(
    "word",
    [
        "crash",
        "recursion",
        "say ",
        "say {",
        "say []",
        "say 1",
        "say null",
        "say {}",
        "say " + "[" * 100_000,
        "say " + "9" * 100_000,
        'say {"number": NUMBER}',
        answer(number=7),
        answer(content_type="text/html"),
        answer(content_type=["image/jpeg"]),
        answer(facts={"width_px": 0}),
        answer(facts={"width_px": 1.5}),
        answer(facts={"width_px": True}),
        answer(facts={"height_px": 10**30}),
        answer(facts={"duration_milliseconds": -1}),
        answer(facts={"video_codec": "<script>"}),
        answer(facts={"video_codec": ["h264"]}),
        answer(facts={"page_count": "1"}),
        answer(facts={"device_time": "yesterday"}),
        answer(facts={"device_time": "2025-11-20T08:00:00"}),
        answer(facts={"device_time": 7}),
        'say {"number": NUMBER, "refused": "no"}',
        'say {"number": NUMBER, "refused": ["a", "b"]}',
        'say {"number": NUMBER, "refused": ["a\\u0000", "b", "c"]}',
        'say {"number": NUMBER, "refused": [1, 2, 3]}',
        'say {"number": NUMBER, "read": [0]}',
        'say {"number": NUMBER, "read": [-1, 10]}',
        'say {"number": NUMBER, "read": [0, 1000000]}',
        'say {"number": NUMBER, "read": [0, "x"]}',
        'say {"number": NUMBER, "read": null}',
        'say {"number": NUMBER, "previews": [1]}',
    ],
)
def test_a_file_that_ruins_its_process_is_refused_and_the_next_is_read(
    processes: InspectingProcesses, word: str
) -> None:
    with pytest.raises(ContentRefused, match="fails or takes too long"):
        look(processes, word)
    assert look(processes, "sound") == SOUND


def test_a_file_that_hangs_is_refused(processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting_process, "LOOK_SECONDS_MAX", 0.3)
    with pytest.raises(ContentRefused, match="takes too long"):
        look(processes, "hang")
    assert processes.pids == []
    monkeypatch.undo()
    monkeypatch.setattr(inspecting_process, "WORKER", "tests.video.misbehaving_worker")
    assert look(processes, "sound") == SOUND


def test_a_file_that_takes_too_much_of_a_core_is_refused(
    processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting_process, "COMPUTE_SECONDS_MAX", 0.2)
    with pytest.raises(ContentRefused, match="takes too long"):
        look(processes, "hang")
    assert look(processes, "sound") == SOUND


def test_a_process_that_nobody_waits_for_ends_itself(processes: InspectingProcesses) -> None:
    """A service that was killed leaves no process behind that decodes for ever."""
    assert look(processes, "sound") == SOUND
    (idle,) = processes._idle
    question = {"task": "inspect", "content_type": JPEG, "size_bytes": 4, "number": 9, "seconds": 0.1}
    descriptor = os.memfd_create("upload")
    os.write(descriptor, b"hang")
    os.lseek(descriptor, 0, os.SEEK_SET)
    socket.send_fds(idle._socket, [json.dumps(question).encode()], [descriptor])
    os.close(descriptor)
    wait_until(lambda: idle.process.poll() is not None, "the kernel to end the process")
    assert idle.process.returncode == -signal.SIGPROF


def test_what_needs_too_much_memory_is_refused(processes: InspectingProcesses) -> None:
    with pytest.raises(ContentRefused, match="too much memory"):
        look(processes, "memory")
    (pid,) = processes.pids
    assert look(processes, "sound") == SOUND
    assert processes.pids == [pid]


def test_a_refusal_is_a_sentence_whatever_the_decoder_says(processes: InspectingProcesses) -> None:
    with pytest.raises(ContentRefused) as refused:
        look(processes, "refuse")
    assert len(refused.value.message) == 500


def test_a_process_killed_by_others_costs_no_file(processes: InspectingProcesses) -> None:
    assert look(processes, "sound") == SOUND
    (pid,) = processes.pids
    os.kill(pid, signal.SIGKILL)
    assert look(processes, "sound") == SOUND
    assert processes.pids != [pid]


def test_a_process_killed_at_work_costs_no_file(processes: InspectingProcesses) -> None:
    killed: list[int] = []

    def read(offset: int, length: int) -> bytes:
        if not killed:
            killed.extend(processes.pids)
            os.kill(killed[0], signal.SIGKILL)
        return b"sound"[offset : offset + length]

    assert processes.inspect_ranges(read, 5, JPEG) == SOUND


def test_what_the_reader_raises_goes_through(processes: InspectingProcesses) -> None:
    class StoreAwayError(Exception):
        pass

    def fail(_offset: int, _length: int) -> bytes:
        raise StoreAwayError

    with pytest.raises(StoreAwayError):
        processes.inspect_ranges(fail, 5, JPEG)
    with pytest.raises(EOFError):
        processes.inspect_ranges(lambda _offset, _length: b"so", 5, JPEG)
    assert look(processes, "sound") == SOUND


def test_a_store_that_is_slow_is_no_fault_of_the_file(
    processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def read(offset: int, length: int) -> bytes:
        clock[0] += 3600.0
        return b"sound"[offset : offset + length]

    assert look(processes, "sound") == SOUND
    monkeypatch.setattr("services.video.inspecting_process.time.monotonic", lambda: clock[0])
    assert processes.inspect_ranges(read, 5, JPEG) == SOUND


def test_a_file_that_is_not_there_is_an_error_of_the_caller(processes: InspectingProcesses, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.inspect_file(tmp_path / "nothing", JPEG)


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_a_process_opens_no_file_and_calls_nobody(processes: InspectingProcesses, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    # Libraries are readable: that a file is there is not what hinders.
    assert look(processes, f"steal {json.__file__}").facts.width_px == 2
    if look(processes, f"steal {secret}").facts.width_px == 2:
        pytest.skip("this kernel has no Landlock")
    assert look(processes, f"steal {secret}:/etc/passwd:/proc/self/environ:{__file__}").facts.width_px == 1
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert look(processes, f"call {server.getsockname()[1]}") == SOUND
    assert look(processes, f"write {secret}") == SOUND
    assert secret.read_text() == "key"


def test_a_process_holds_none_of_the_service_s_secrets(processes: InspectingProcesses) -> None:
    look(processes, "sound")
    (pid,) = processes.pids
    child = Path(f"/proc/{pid}")
    assert [one.partition("=")[0] for one in (child / "environ").read_text().split("\0") if one] == ["PYTHONPATH"]
    opened = [str(one.readlink()) for one in (child / "fd").iterdir()]
    assert len([one for one in opened if one.startswith("socket:")]) == 1
    assert re.search(r"Max core file size +0 +0 ", (child / "limits").read_text())


def test_files_are_not_left_open_in_the_process(honest: InspectingProcesses, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(jpeg())
    honest.inspect_file(path, JPEG)
    (pid,) = honest.pids
    before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    for _ in range(10):
        honest.inspect_file(path, JPEG)
        path.write_bytes(jpeg()[:100])
        with pytest.raises(ContentRefused):
            honest.inspect_file(path, JPEG)
        path.write_bytes(jpeg())
    assert honest.pids == [pid]
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == before


def test_sixteen_uploads_share_two_processes(honest: InspectingProcesses) -> None:
    contents = {JPEG: jpeg(), MP4: clip()}
    expected = {JPEG: MediaFacts(320, 240), MP4: MediaFacts(320, 240, 2_000, "h264")}

    def one(number: int) -> bool:
        kind = (JPEG, MP4)[number % 2]
        content = contents[kind]
        found = honest.inspect_ranges(lambda at, length: content[at : at + length], len(content), kind)
        return found == Inspection(kind, expected[kind])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(64)))
    assert len(honest.pids) == 2


class SlowBytes:
    """Bytes that come when a test lets them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.entered, self.may_go = threading.Event(), threading.Event()

    def read(self, offset: int, length: int) -> bytes:
        """Wait, then return a range of them."""
        self.entered.set()
        assert self.may_go.wait(10)
        return self._content[offset : offset + length]


def test_who_waits_too_long_for_a_process_may_come_again(
    processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting_process, "WAIT_SECONDS_MAX", 0.05)
    running = InspectingProcesses(1)
    sound = SlowBytes(b"sound")

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(running.inspect_ranges, sound.read, 5, JPEG)
        assert sound.entered.wait(10)
        with pytest.raises(InspectionUnavailable, match="busy"):
            look(running, "sound")
        sound.may_go.set()
        assert busy.result() == SOUND
    running.stop()


def test_without_a_process_nothing_is_refused(processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting_process, "WORKER", "services.no_such_module")
    with pytest.raises(InspectionUnavailable, match="did not start"):
        look(processes, "sound")
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(InspectionUnavailable, match="can be started"):
        look(processes, "sound")


def test_after_stop_no_process_is_left_and_none_is_started(processes: InspectingProcesses) -> None:
    look(processes, "sound")
    sound = SlowBytes(b"sound")

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(processes.inspect_ranges, sound.read, 5, JPEG)
        assert sound.entered.wait(10)
        processes.stop()
        sound.may_go.set()
        with pytest.raises(InspectionUnavailable, match="stopping"):
            busy.result()
    assert processes.pids == []
    with pytest.raises(InspectionUnavailable, match="stopping"):
        look(processes, "sound")


def test_the_service_loads_no_decoder() -> None:
    """They take forty megabytes, and their faults would be the service's."""
    program = (
        "import sys, services.video.inspecting_process, services.video.previews, services.video.app;"
        "print(sorted({'av', 'PIL', 'pypdf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packets_fit_the_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(bytes(PACKET_BYTES_MAX))
        assert len(theirs.recv(2 * PACKET_BYTES_MAX)) == PACKET_BYTES_MAX


def test_a_process_is_replaced_after_many_files(
    processes: InspectingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting_process, "FILES_MAX", 3)
    seen = []
    for _ in range(4):
        assert look(processes, "sound") == SOUND
        seen += processes.pids
    # Nothing lives behind the third file, and the fourth has another process.
    assert len(seen) == 3
    assert len(set(seen)) == 2
