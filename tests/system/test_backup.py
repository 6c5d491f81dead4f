"""The drill of docs/operate/backup.md: a county is backed up while it takes records, lost, and restored elsewhere. What
it had acknowledged comes back from above, nothing above changes, and no place in a log is used twice.
"""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cli.simulate.site import CITY, COUNTY
from cli.up_options import ExitCode
from tests.system.evidence import seal
from tests.system.joined import WAIT_SECONDS, Joined
from tests.system.waiting import wait_until
from tests.video.media_files import photo
from zhichao.weighing.v1 import record_pb2

pytestmark = pytest.mark.system

RECORDS = 400


def zhichao(*words: str) -> Any:
    """Run a command of a process of its own; return what it prints."""
    command = [sys.executable, "-P", "-m", "cli.main", *words, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    assert finished.returncode == 0, f"{words}: {finished.stdout}{finished.stderr}"
    return json.loads(finished.stdout)


class Weighing(threading.Thread):
    """Sends records to the county, some at a time, until it is told to stop."""

    def __init__(self, platforms: Joined) -> None:
        super().__init__(daemon=True)
        self._platforms = platforms
        self._stopping = threading.Event()
        self.recorded: list[record_pb2.WeighingRecord] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            records = self._platforms.take(20)
            self._platforms.record(records)
            self.recorded += records

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def test_a_county_is_backed_up_lost_and_restored(directory: Path, tmp_path: Path) -> None:
    backup, lost, restored = tmp_path / "backup", directory / "lost", tmp_path / "elsewhere"
    with Joined(directory, (COUNTY, CITY)) as platforms:
        county = platforms.county
        platforms.record(platforms.take(RECORDS))
        content = photo()
        sealed = seal(platforms, content)

        # While it takes records.
        weighing = Weighing(platforms)
        weighing.start()
        wait_until(lambda: len(weighing.recorded) >= 40, WAIT_SECONDS, "no records are taken")
        before = platforms.position(COUNTY).size
        record = zhichao("backup", "create", "--data", str(county.data_directory), "--out", str(backup))
        weighing.stop()
        zhichao("backup", "verify", str(backup))
        (own,) = [log for log in record["logs"] if (log["stream"], log["origin"]) == ("weighing", COUNTY)]
        assert own["size"] >= before
        assert (record["evidence"]["mode"], record["evidence"]["object_count"]) == ("copied", 1)

        # More comes in, goes up, and is not in the backup. Then everything is lost but keys and tokens.
        later = platforms.take(RECORDS)
        receipts = platforms.record(later)
        platforms.wait_equal(COUNTY, CITY)
        platforms.wait_equal(COUNTY, CITY, stream="registry")
        sealed_later = seal(platforms, photo())
        platforms.wait_equal(COUNTY, CITY, stream="video")
        acknowledged = platforms.entries(CITY)
        assert county.terminate() == ExitCode.STOPPED
        county.data_directory.rename(lost)

        told = zhichao("backup", "restore", str(backup), "--data", str(restored), "--secrets-from", str(lost))
        assert set(told["recovering"]) >= {"registry", "weighing"}
        assert own["size"] <= next(
            log["size"] for log in told["logs"] if (log["stream"], log["origin"]) == ("weighing", COUNTY)
        )
        shutil.rmtree(lost)
        again = platforms.process(COUNTY, restored)
        platforms.replace(COUNTY, again)
        again.start()

        # What it had acknowledged comes back, to the last entry, before anything new is written.
        platforms.wait_equal(COUNTY, CITY)
        assert platforms.entries(COUNTY)[: len(acknowledged)] == acknowledged
        # Records that were answered before are recognised, and answered the same; new ones follow behind.
        assert [one.receipt for one in platforms.record(later)] == [one.receipt for one in receipts]
        new = platforms.record(platforms.take(RECORDS))
        assert [one.receipt.sequence for one in new] == list(
            range(len(acknowledged) + 1, len(acknowledged) + RECORDS + 1)
        )
        platforms.wait_equal(COUNTY, CITY)
        assert platforms.entries(CITY)[: len(acknowledged)] == acknowledged
        assert platforms.entries(COUNTY) == platforms.entries(CITY)

        # Evidence came back with its bytes. Of what was sealed after the backup the manifest comes from above; that its
        # bytes went with the machine is found and told.
        assert sealed.read(COUNTY) == content
        sealed_later.wait_for(COUNTY, "DAMAGED")

        # An independent look: the bytes, the roots, the signatures, and both copies against each other.
        zhichao("verify", str(restored), "--against", str(platforms.platforms[CITY].data_directory))


def test_a_county_that_stands_alone_goes_on_at_once(directory: Path, tmp_path: Path) -> None:
    backup, lost, restored = tmp_path / "backup", directory / "lost", tmp_path / "elsewhere"
    with Joined(directory, (COUNTY,)) as platforms:
        county = platforms.county
        platforms.record(platforms.take(RECORDS))
        held = platforms.entries(COUNTY)
        # Stopped: its server is started for the backup.
        assert county.terminate() == ExitCode.STOPPED
        zhichao("backup", "create", "--data", str(county.data_directory), "--out", str(backup))
        county.data_directory.rename(lost)

        told = zhichao(
            "backup", "restore", str(backup), "--data", str(restored), "--secrets-from", str(lost), "--stands-alone"
        )
        assert told["recovering"] == []
        again = platforms.process(COUNTY, restored)
        platforms.replace(COUNTY, again)
        again.start()

        new = platforms.record(platforms.take(RECORDS))
        assert [one.receipt.sequence for one in new] == list(range(len(held) + 1, len(held) + RECORDS + 1))
        assert platforms.entries(COUNTY)[: len(held)] == held
        zhichao("verify", str(restored))
