"""Backlogs as the process beside the service gets them, and what the service itself would make of them."""

import random
from datetime import datetime
from pathlib import Path
from typing import Any

from services.journal.digests import Digester
from services.weighing.directory import Directory
from services.weighing.preparing import Prepared, RecordPreparer
from services.weighing.preparing_process import PreparingProcess
from tests.registry.harness import START
from tests.waiting import wait_until
from tests.weighing.records import BY_VERDICT, record, vehicle
from zhichao.weighing.v1 import record_pb2
from zhichao.weighing.v1 import service_pb2 as pb

LARGE = 300
"""Records of a batch that is large enough for the process."""

ActorAndRequest = ("local", "request-1")


def serialised(batch: list[record_pb2.WeighingRecord]) -> bytes:
    return pb.StreamWeighingsRequest(records=batch).SerializeToString()


def asked(process: PreparingProcess, batch: list[record_pb2.WeighingRecord], now: datetime = START) -> Any:
    """Prepare in the process, once it is ready."""
    content = serialised(batch)
    return wait_until(lambda: process.prepare(content, now, *ActorAndRequest), "the process is ready")


def locally(directory: Directory, batch: list[record_pb2.WeighingRecord], now: datetime = START) -> Prepared:
    preparer = RecordPreparer(Digester("sha256"), directory, lambda: False)
    return preparer.prepare([one.SerializeToString() for one in batch], now, *ActorAndRequest)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def made_up(seed: int, count: int = LARGE) -> list[record_pb2.WeighingRecord]:
    """Return records of every verdict, some with axles, some that cannot be recorded."""
    random_ = random.Random(seed)
    batch = []
    for number in range(count):
        fields: dict[str, Any] = dict(random_.choice(list(BY_VERDICT.values())))
        if random_.random() < 0.2:
            axles = [record_pb2.Axle(weight_kg=random_.randrange(9_000), spacing_mm=3_000) for _ in range(2)]
            fields["vehicle"] = vehicle(axles=[*axles, record_pb2.Axle(weight_kg=8_000)])
        if random_.random() < 0.05:
            fields |= random_.choice(
                [{"gross_weight_kg": -1}, {"scale_id": "unknown"}, {"source_unit_id": "nobody"}, {"scale_id": "坏"}]
            )
        batch.append(record(f"r-{seed}-{number}", **fields))
    return batch
