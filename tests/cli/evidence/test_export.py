"""`zhichao evidence export` against real services: what goes into a bundle, and where the bundle is put."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.evidence_bundle import contents
from cli.evidence_bundle.check import check_bundle
from cli.evidence_export import custody_choice, pieces
from tests.cli.evidence.exporting import ExportingCounty, exporting_county, name_of
from tests.conftest import Databases
from tests.registry.harness import RunningRegistry
from tests.video.conftest import county, county_registry, day, evidence_store, video_of
from tests.video.harness import RunningVideo
from tests.video.media_files import photo
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb

__all__ = ["county", "county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.


@pytest.fixture
def exporter(
    databases: Databases, county_registry: RunningRegistry, county: RunningVideo, socket_directory: Path, tmp_path: Path
) -> Iterator[ExportingCounty]:
    """Run a county that exports."""
    with exporting_county(databases, county_registry, county, socket_directory, tmp_path) as running:
        yield running


def exports_of(exporter: ExportingCounty, held: pb.HeldEvidence) -> list[str]:
    """Return the bundles into which a piece of evidence went."""
    events = (one.event for one in exporter.custody(held))
    return [event.reference_id for event in events if event.action == custody_pb2.CUSTODY_ACTION_EXPORTED]


def ids(document: dict[str, Any]) -> list[str]:
    return [one["evidence_id"] for one in document["evidence"]]


def test_a_weighing_with_more_evidence_than_a_bundle_holds_is_exported_in_parts(
    exporter: ExportingCounty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site seals as many photos as it likes; that must not keep its weighing from being exported."""
    monkeypatch.setattr(pieces, "EVIDENCE_MAX", 2)
    held = [exporter.sealed(photo(), evidence_id=f"e-{number}") for number in range(3)]
    refused = exporter.export("all.zip")
    assert refused.exit_code == 1
    assert "make 2 bundles with --part 1 to --part 2" in refused.output
    assert exporter.custody(held[0]) == []
    told = [exporter.exported(f"{part}.zip", "--part", str(part)) for part in (1, 2)]
    assert [one["evidence_left_out"] for one in told] == [1, 2]
    documents = [exporter.verified("1.zip"), exporter.verified("2.zip")]
    assert [ids(one) for one in documents] == [["e-0", "e-1"], ["e-2"]]
    assert [one["evidence_left_out"] for one in documents] == [1, 2]
    assert "there is no part 3" in exporter.export("3.zip", "--part", "3").output
    assert exports_of(exporter, held[2]) == [told[1]["bundle_id"]]


def test_pieces_are_chosen_by_name(exporter: ExportingCounty, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever there is beyond what is listed.
    monkeypatch.setattr(pieces, "LISTED_MAX", 2)
    for number in range(4):
        exporter.sealed(photo(), evidence_id=f"e-{number}")
    assert "choose up to 100 with --evidence" in exporter.export("all.zip").output
    chosen = ("--evidence", "141025-9101/e-2", "--evidence", "141025/141025-9101/e-0", "--evidence", "141025-9101/e-2")
    assert exporter.exported("chosen.zip", *chosen)["evidence_count"] == 2
    document = exporter.verified("chosen.zip")
    assert sorted(ids(document)) == ["e-0", "e-2"]
    # That many or more.
    assert document["evidence_left_out"] == 2
    monkeypatch.setattr(pieces, "EVIDENCE_MAX", 1)
    assert "2 pieces are chosen, and a bundle holds 1" in exporter.export("x.zip", *chosen).output
    monkeypatch.setattr(pieces, "LISTED_MAX", 100)
    assert exporter.exported("one.zip", *chosen[:2])["evidence_left_out"] == 3
    assert exporter.export("x.zip", *chosen, "--part", "1").exit_code == 2


def test_evidence_of_something_else_is_not_exported_with_it(exporter: ExportingCounty) -> None:
    exporter.sealed(photo())
    other = exporter.video.sealed(photo(), source_unit_id="141025-9101")
    refused = exporter.export("x.zip", "--evidence", f"141025-9101/{other.evidence.evidence_id}")
    assert "does not prove this weighing" in refused.output
    assert exporter.custody(other) == []


def test_what_was_looked_at_often_is_exported_with_the_newest_views(
    exporter: ExportingCounty, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = exporter.sealed(photo())
    hold = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-7", purpose="案件")
    exporter.video.call("PlaceLegalHold", hold)
    for number in range(4):
        exporter.video.clock.advance(seconds=1)
        request = pb.ReadEvidenceRequest(name=name_of(held), purpose=f"look {number}")
        assert list(exporter.video.stub.ReadEvidence(request))
    for module in (custody_choice, contents):
        monkeypatch.setattr(module, "CUSTODY_MAX", 4)
    result = exporter.export("b.zip")
    assert result.exit_code == 0, result.output
    assert "2 × viewed 查看" in result.stderr
    document = exporter.verified("b.zip")
    assert (document["custody_count"], document["custody_left_out"]) == (4, {"VIEWED": 2})
    custody = check_bundle(exporter.directory / "b.zip").contents.custody
    assert [event.purpose for _, event in custody] == ["案件", "look 2", "look 3", "移送"]


def test_a_bundle_that_is_not_right_is_not_kept(exporter: ExportingCounty, monkeypatch: pytest.MonkeyPatch) -> None:
    held = exporter.sealed(photo())
    list(exporter.video.stub.ReadEvidence(pb.ReadEvidenceRequest(name=name_of(held), purpose="a look")))
    # It leaves out what the checker knows that there is room for.
    monkeypatch.setattr(custody_choice, "CUSTODY_MAX", 1)
    refused = exporter.export("b.zip")
    assert refused.exit_code == 1
    for words in ("leaves out custody events for which there is room", "is not right as written, and not kept"):
        assert words in refused.output
    assert [path.name for path in exporter.directory.iterdir()] == ["exporter.token"]


def test_a_bundle_that_cannot_be_written_is_not_written_down(exporter: ExportingCounty) -> None:
    held = exporter.sealed(photo())
    bundle_id = exporter.exported("b.zip")["bundle_id"]
    before = (exporter.directory / "b.zip").read_bytes()
    refused = exporter.export("b.zip")
    assert refused.exit_code == 1
    assert "is there already: name another file" in refused.output
    assert (exporter.directory / "b.zip").read_bytes() == before
    assert "is no directory: make it" in exporter.export("nowhere/c.zip").output
    # Nothing was written down of what was not done.
    assert exports_of(exporter, held) == [bundle_id]
