"""Waits until the bytes of evidence are where they belong, and reads them there, as the cameras know them."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from cli.evidence_transfer import read_bytes
from cli.listing import every
from cli.run_ledger import read_lines
from cli.status_targets import Target
from services.common.rpc_client import service_error
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CALL_SECONDS_MAX: Final = 20.0

STALL_SECONDS_MAX: Final = 60.0
"""Bytes follow their manifests within seconds; a minute in which nothing came is a fault."""

POLL_SECONDS: Final = 0.5

READ_MAX: Final = 40
"""Pieces read at each level, clips of suspected overloads first: every reading is an entry of its own in the journal,
and the run is to end soon. The scrubbers of the platforms read everything, in their own time."""

PAGE_SIZE: Final = 1_000
"""The most that there is on a page of evidence (the contract)."""

EXAMPLES_MAX: Final = 3


@dataclass(slots=True)
class LevelEvidence:
    """The bytes of what is sealed at one level."""

    code: str
    # Clips of suspected overloads that there are, and whose bytes are here.
    clip_count: int = 0
    clips_held_count: int = 0
    # Photos and clips looked at, and whose bytes are here.
    looked_at_count: int = 0
    held_count: int = 0
    # Read here, with the digest that was sealed.
    right_count: int = 0
    read_count: int = 0
    differences: list[str] = field(default_factory=list)

    def differs(self, text: str) -> None:
        """Keep a difference."""
        if len(self.differences) < EXAMPLES_MAX:
            self.differences.append(f"{self.code}: {text}")


Ledger = Sequence[Mapping[str, Any]]
Name = tuple[str, str, str]
"""Origin, source unit and id of a piece of evidence."""


def read_ledger(path: Path) -> Ledger:
    """Return what was sealed, each once: clips of suspected overloads first, then their photos, then the others."""
    found = {(line["source_unit_id"], line["evidence_id"]): line for line in read_lines(path)}
    return sorted(found.values(), key=lambda line: (not line["is_suspected"], not line["is_clip"], line["sequence"]))


def wait_and_read(
    targets: Sequence[Target],
    ledger: Ledger,
    report: Callable[[int], None] = lambda waiting: None,
) -> list[LevelEvidence]:
    """Wait until every level has the bytes of the clips of suspected overloads, then read a choice at each level.

    By the policy that platforms have unless told otherwise, all photos and these clips go up to the province.
    """
    with ExitStack() as stack:
        stubs = [VideoServiceStub(stack.enter_context(target.connect("video", "operator"))) for target in targets]
        wanted = [line for line in ledger if line["is_suspected"]]
        _wait(stubs, wanted, report)
        return [
            _look(target.platform, stub, ledger) if ledger else LevelEvidence(target.platform)
            for target, stub in zip(targets, stubs, strict=True)
        ]


def _wait(stubs: Sequence[VideoServiceStub], wanted: Ledger, report: Callable[[int], None]) -> None:
    names = {_name(line) for line in wanted}
    # A level that cannot be asked has nothing yet.
    waiting: dict[VideoServiceStub, AbstractSet[Name]] = dict.fromkeys(stubs, names)
    progressed_at = time.monotonic()
    while any(waiting.values()) and time.monotonic() - progressed_at < STALL_SECONDS_MAX:
        left = {stub: before - _held(stub) if before else before for stub, before in waiting.items()}
        if left != waiting:
            progressed_at = time.monotonic()
        waiting = left
        report(sum(map(len, waiting.values())))
        if any(waiting.values()):
            time.sleep(POLL_SECONDS)


def _name(line: Mapping[str, Any]) -> Name:
    return line["origin"], line["source_unit_id"], line["evidence_id"]


def _held(stub: VideoServiceStub) -> AbstractSet[Name]:
    """Return what is there with its bytes; nothing where the level cannot be asked."""
    try:
        return _listed(stub, [pb.BYTES_STATE_HELD]).keys()
    except grpc.RpcError:
        return frozenset()


def _listed(stub: VideoServiceStub, states: Sequence[int] = ()) -> Mapping[Name, pb.HeldEvidence]:
    """Return what a level lists, by name: some calls for thousands, where one for each would soon be over the limit."""
    request = pb.ListEvidenceRequest(
        filter=pb.EvidenceFilter(bytes_states=states),  # type: ignore[arg-type]  # values of the enum
        page_size=PAGE_SIZE,
    )
    found = every(stub.ListEvidence, request, "held_evidence", CALL_SECONDS_MAX)
    return {(one.origin, one.evidence.source_unit_id, one.evidence.evidence_id): one for one in found}


def _look(code: str, stub: VideoServiceStub, ledger: Ledger) -> LevelEvidence:
    found = LevelEvidence(code)
    try:
        listed = _listed(stub)
    except grpc.RpcError as error:
        refused = service_error(error)
        found.differs(f"evidence cannot be listed: {refused.message} ({refused.reason})")
        return found
    for line in ledger:
        found.looked_at_count += 1
        is_wanted = line["is_suspected"] and line["is_clip"]
        found.clip_count += is_wanted
        held = listed.get(_name(line))
        if held is None:
            found.differs(f"the manifest of {line['evidence_id']} is not held")
            continue
        is_here = held.bytes_state == pb.BYTES_STATE_HELD
        found.held_count += is_here
        found.clips_held_count += is_wanted and is_here
        if is_wanted and not is_here:
            found.differs(f"the bytes of the clip {line['evidence_id']} have not come")
        if is_here and found.read_count < READ_MAX:
            _read(found, stub, held, line)
    return found


def _read(found: LevelEvidence, stub: VideoServiceStub, held: pb.HeldEvidence, line: Mapping[str, Any]) -> None:
    digest, size = hashlib.sha256(), 0
    found.read_count += 1
    try:
        for chunk in read_bytes(stub, held, "zhichao run 核验"):
            digest.update(chunk)
            size += len(chunk)
    except grpc.RpcError as error:
        refused = service_error(error)
        found.differs(f"{line['evidence_id']} cannot be read: {refused.message} ({refused.reason})")
        return
    if (digest.hexdigest(), size) == (line["digest"], line["size_bytes"]):
        found.right_count += 1
    else:
        found.differs(f"{line['evidence_id']} has other bytes than were uploaded")
