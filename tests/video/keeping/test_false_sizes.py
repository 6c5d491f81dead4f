"""A platform below may say any size of bytes that it names: that makes no right bytes wrong."""

import hashlib
from datetime import timedelta

import pytest

from services.common.database import raw_connection
from services.common.errors import ServiceError
from services.common.instants import timestamp
from services.common.reasons import Reason
from services.video import kinds
from services.video.domain import BytesState, Name
from services.video.outgoing_bytes import OutgoingBytes, Rendition
from services.video.projection import VideoProjection
from tests.video.harness import COUNTY
from tests.video.keeping.harness import Kept
from zhichao.video.v1 import evidence_pb2

BELOW, THERE = "141026", "141026-9001"

CONTENT = b"the same permit in two places"


def say(kept: Kept, size_bytes: int) -> Name:
    """Let a manifest come from below that names the bytes, and another size."""
    now = kept.clock.now()
    manifest = evidence_pb2.Evidence(
        source_unit_id=THERE,
        evidence_id="false",
        kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT,
        division_code=BELOW,
        digest=hashlib.sha256(CONTENT).digest(),
        size_bytes=size_bytes,
        content_type="application/pdf",
        retain_until_time=timestamp(now + timedelta(days=1)),
        seal_time=timestamp(now),
    )
    projection = VideoProjection()
    prepared = projection.prepare(BELOW, kinds.EVIDENCE_KIND, manifest.SerializeToString(), b"leaf")
    with kept.engine.begin() as pooled:
        projection.project(raw_connection(pooled), BELOW, [(1, prepared)])
    return Name(BELOW, THERE, "false")


def test_bytes_that_are_sealed_after_it_are_right(kept: Kept) -> None:
    say(kept, 1)
    evidence = kept.seal(CONTENT)

    kept.scrub()

    assert kept.actions(evidence) == []
    assert kept.state(evidence.digest) == BytesState.HELD


@pytest.mark.parametrize("is_listed", [False, True])
def test_own_bytes_that_are_found_after_a_restore_are_right(kept: Kept, *, is_listed: bool) -> None:
    say(kept, 1)
    evidence = kept.seal(CONTENT)
    # As the manifests have made the row: the own one came back from above, after the other one.
    kept.execute("UPDATE objects SET state = 2, size_bytes = 1, stored_time = NULL")
    if is_listed:
        kept.clock.moved += timedelta(hours=2)

    kept.reconcile()
    kept.scrub()

    assert kept.actions(evidence) == ["RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD


def test_who_reads_by_it_accuses_nobody(kept: Kept) -> None:
    evidence = kept.seal(CONTENT)
    false = say(kept, len(CONTENT) + 1)
    outgoing = OutgoingBytes(kept.engine, COUNTY, kept.custody, kept.objects, kept.clock)

    with pytest.raises(ServiceError) as refused:
        next(outgoing.send(false, Rendition.ORIGINAL, 0, 0, "a test", is_download=False))

    assert refused.value.reason is Reason.EVIDENCE_CHANGED
    assert kept.actions(evidence) == []
    assert kept.state(evidence.digest) == BytesState.HELD
