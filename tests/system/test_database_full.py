"""A county whose disk is full: refused with a time to wait, nothing half-written, and it works again with room."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from cli.simulate.site import COUNTY
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.history import History
from tests.system.waiting import wait_until
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc

pytestmark = pytest.mark.system

# A new cluster takes 45 MB, of which one segment of the write-ahead log is 16 MB.
DISK_MEGABYTES = 120
RECORDS_BEFORE = 500
# Each call adds some 200 KB with its indexes.
RECORDS_PER_CALL = 400
CALL_SECONDS = 10.0
FULL_SECONDS_MAX = 60.0
# A server that its full disk has ended is tried again after at most 30 s.
WORKS_SECONDS_MAX = 90.0
REFUSALS_WANTED = 3


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mount a small file system, or skip and say why."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small file system")
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=755", "zhichao-test", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    return ballast


def check_refusal(code: grpc.StatusCode, error: ServiceError) -> None:
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.DATABASE_UNAVAILABLE), str(error)
    assert error.retry_after_seconds, "RetryInfo is missing"


def record_once(
    stub: service_pb2_grpc.WeighingServiceStub, records: list[record_pb2.WeighingRecord], history: History
) -> bool:
    """Send a batch once; False when it is refused as it should be, AssertionError when in another way."""
    for record in records:
        history.sending(record)
    try:
        answer = stub.RecordWeighings(service_pb2.RecordWeighingsRequest(records=records), timeout=CALL_SECONDS)
    except grpc.RpcError as failure:
        check_refusal(failure.code(), service_error(failure))
        return False
    for record, result in zip(records, answer.results, strict=True):
        assert result.HasField("recorded"), str(result.refusal)
        history.acknowledged(record, result.recorded)
    return True


def test_a_full_disk_refuses_and_loses_nothing(
    make_levels: MakeLevels, database_template: Path, directory: Path, seed: int
) -> None:
    levels = make_levels(platforms=(COUNTY,), from_template=False)
    county, history = levels.county, levels.history
    disk = county.directory / "postgres"
    source = RecordSource(levels.site, seed=seed)
    with small_disk(disk):
        subprocess.run(["cp", "-a", f"{database_template}/.", str(disk)], check=True)
        try:
            levels.start()
            levels.register()
            record_all(levels.gate, source, history, records_max=RECORDS_BEFORE, seconds_max=60)
            ballast = fill(disk)
            channel = levels.gate.connect()
            stub = levels.gate.firm(channel)
            refused: list[record_pb2.WeighingRecord] = []

            def is_refused() -> bool:
                records = source.take(RECORDS_PER_CALL)
                if record_once(stub, records, history):
                    return False
                refused.extend(records)
                return True

            for _ in range(REFUSALS_WANTED):
                wait_until(is_refused, FULL_SECONDS_MAX, "the disk is not full")
            ballast.unlink()
            for start in range(0, len(refused), RECORDS_PER_CALL):
                batch = refused[start : start + RECORDS_PER_CALL]
                wait_until(lambda batch=batch: record_once(stub, batch, history), WORKS_SECONDS_MAX, "still refuses")  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            channel.close()
            levels.check()
            assert "INTERNAL" not in county.process.log_text()
        finally:
            county.process.kill_everything()
