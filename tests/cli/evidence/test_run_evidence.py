"""What `zhichao run` asks about evidence at its end, against a real video service with a real store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import run_evidence
from cli.access import CallerOptions
from cli.run_evidence import LevelEvidence, wait_and_read
from cli.status_targets import Target
from services.common.access.permissions import Role
from services.common.access.principal import CallLimits
from tests.video.conftest import county, county_registry, day, evidence_store, video_of
from tests.video.harness import COUNTY, UNIT, RunningVideo
from zhichao.video.v1 import service_pb2 as pb

__all__ = ["county", "county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.

Look = Callable[[list[dict[str, Any]]], LevelEvidence]


@pytest.fixture
def look(county: RunningVideo, tmp_path: Path) -> Look:
    """Look at the county's evidence as a person who may call twice a second, and ten times at once."""
    token_file = tmp_path / "person.token"
    token_file.write_text(county.access.person(Role.OFFICER, name="li", limits=CallLimits(2, 10, 1e9)))
    target = Target(COUNTY, {"video": county.address}, options=CallerOptions(token_file))
    return lambda ledger: wait_and_read([target], ledger)[0]


def line(held: pb.HeldEvidence) -> dict[str, Any]:
    """Return what a simulated site writes down about what was sealed."""
    evidence = held.evidence
    return {
        "origin": COUNTY,
        "source_unit_id": UNIT,
        "evidence_id": evidence.evidence_id,
        "digest": evidence.digest.hex(),
        "size_bytes": evidence.size_bytes,
        "is_suspected": True,
        "is_clip": False,
    }


def test_much_evidence_is_looked_at_within_the_limits_of_a_person(
    county: RunningVideo, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_evidence, "READ_MAX", 2)
    ledger = [line(county.sealed()) for _ in range(30)]

    found = look(ledger)

    assert found == LevelEvidence(COUNTY, looked_at_count=30, held_count=30, right_count=2, read_count=2)


def test_what_is_missing_is_named(county: RunningVideo, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_evidence, "STALL_SECONDS_MAX", 0.0)
    lost = line(county.sealed()) | {"evidence_id": "lost"}

    found = look([lost])

    assert (found.held_count, found.differences) == (0, [f"{COUNTY}: the manifest of lost is not held"])


def test_what_is_missing_is_named_however_much_is_there(
    county: RunningVideo, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_evidence, "STALL_SECONDS_MAX", 0.0)
    monkeypatch.setattr(run_evidence, "READ_MAX", 1)
    one = line(county.sealed())

    found = look([*[one] * 1_000, one | {"evidence_id": "lost", "is_clip": True}])

    assert (found.clip_count, found.clips_held_count, found.held_count) == (1, 0, 1_000)
    assert found.differences == [f"{COUNTY}: the manifest of lost is not held"]


def test_a_level_that_cannot_be_asked_says_why(
    county: RunningVideo, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_evidence, "STALL_SECONDS_MAX", 0.0)
    ledger = [line(county.sealed())]
    county.stop()

    found = look(ledger)

    assert found.differences[0].startswith(f"{COUNTY}: evidence cannot be listed: ")
