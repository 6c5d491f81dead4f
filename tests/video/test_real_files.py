"""Real photos and clips of the trade, from the upload to the bundle that is checked without a platform."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from services.common.instants import timestamp
from tests.cli.evidence.exporting import ExportingCounty, exporting_county, name_of
from tests.conftest import Databases
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.video.harness import RunningVideo
from tests.video.media_files import real
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

POSTER, THUMBNAIL = pb.EVIDENCE_RENDITION_POSTER, pb.EVIDENCE_RENDITION_THUMBNAIL

PREVIEWS: Final[Mapping[str, Mapping["pb.EvidenceRendition.ValueType", tuple[int, int]]]] = {
    "photo_with_exif.jpg": {THUMBNAIL: (320, 240)},
    "road_20s.mp4": {POSTER: (640, 360), THUMBNAIL: (320, 180)},
    "roadside_11s.mp4": {POSTER: (640, 352), THUMBNAIL: (320, 176)},
}
"""What is drawn of each file, with its width and height."""


@pytest.fixture
def exporter(
    databases: Databases, county_registry: RunningRegistry, county: RunningVideo, socket_directory: Path, tmp_path: Path
) -> Iterator[ExportingCounty]:
    """Run a county that exports."""
    with exporting_county(databases, county_registry, county, socket_directory, tmp_path) as running:
        yield running


def uploaded(exporter: ExportingCounty, name: str, content: bytes) -> pb.HeldEvidence:
    """Upload a file as a terminal does that took it a minute ago."""
    evidence_id = name.partition(".")[0].replace("_", "-")
    if not name.endswith(".mp4"):
        return exporter.sealed(content, evidence_id=evidence_id)
    start = exporter.video.clock.now() - timedelta(minutes=1)
    return exporter.sealed(
        content,
        evidence_id=evidence_id,
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        content_type="video/mp4",
        capture_start_time=timestamp(start),
        capture_end_time=timestamp(start + timedelta(seconds=20)),
    )


def read(
    exporter: ExportingCounty,
    held: pb.HeldEvidence,
    rendition: "pb.EvidenceRendition.ValueType" = pb.EVIDENCE_RENDITION_ORIGINAL,
) -> bytes:
    request = pb.ReadEvidenceRequest(name=name_of(held), rendition=rendition, purpose="a test")
    answers = exporter.video.stub.ReadEvidence(request, timeout=TIMEOUT_SECONDS)
    return b"".join(answer.chunk for answer in answers)


def has_previews(exporter: ExportingCounty, held: pb.HeldEvidence) -> bool:
    answer = exporter.video.call("GetEvidence", pb.GetEvidenceRequest(name=name_of(held)))
    return bool(answer.held_evidence.has_preview)


def test_real_files_are_uploaded_previewed_read_exported_and_verified(exporter: ExportingCounty) -> None:
    contents = {name: real(name) for name in PREVIEWS}
    for name, content in contents.items():
        held = uploaded(exporter, name, content)
        wait_until(partial(has_previews, exporter, held), f"previews of {name} are drawn")
        drawn = {
            rendition: Image.open(io.BytesIO(read(exporter, held, rendition))).size for rendition in PREVIEWS[name]
        }
        assert drawn == PREVIEWS[name]
        assert read(exporter, held) == content
    assert exporter.exported("real.zip")["evidence_count"] == len(contents)
    document = exporter.verified("real.zip")
    assert document["weighing"]["judgement"]["verdict"] == "VERDICT_SUSPECTED"
    assert document["rule_set_is_proven"]
    digests = {hashlib.sha256(content).hexdigest() for content in contents.values()}
    assert {one["sha256"] for one in document["evidence"]} == digests
    # The photo and the clips are files of their own, for whoever has nothing but a program that opens zips.
    with zipfile.ZipFile(exporter.directory / "real.zip") as bundle:
        files = [bundle.read(name) for name in bundle.namelist() if name.startswith("evidence/")]
    assert sorted(files) == sorted(contents.values())
