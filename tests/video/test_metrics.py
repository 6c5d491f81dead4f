"""The figures of the evidence store, as Prometheus reads them."""

from pathlib import Path

import grpc
import pytest

from services.video import background, keeping, store_watch
from tests.metrics import Scrape, shown_by
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, RunningVideo, draft_of, messages
from tests.video.media_files import photo
from tests.video.stores.servers import SeaweedServer
from tests.waiting import wait_until


def shown(county: RunningVideo) -> Scrape:
    """Read the figures of a service, those that were kept a moment ago left aside."""
    for group in county.app.metrics._groups.values():
        group._read_at = None
    return shown_by(county.app.metrics)


def test_what_is_sealed_is_counted_and_shown(county: RunningVideo) -> None:
    sizes = [county.sealed().evidence.size_bytes for _ in range(3)]

    found = shown(county)

    assert found.values("zhichao_evidence_sealed_total", "kind") == {"photo": 3.0, "clip": 0.0, "document": 0.0}
    assert found.value("zhichao_evidence_sealed_bytes_total") == sum(sizes)
    assert found.value("zhichao_evidence_seal_duration_seconds_count") == 3
    assert found.value("zhichao_evidence_objects") == 3
    assert found.value("zhichao_evidence_bytes") == sum(sizes)
    assert found.value("zhichao_evidence_store_reachable") == 1
    assert (found.value("zhichao_evidence_missing_objects"), found.value("zhichao_evidence_orphan_objects")) == (0, 0)


def test_locks_rounds_and_comparisons_are_shown(county: RunningVideo) -> None:
    wait_until(
        lambda: shown(county).value("zhichao_evidence_reconcile_timestamp_seconds"), "store and tables are compared"
    )

    states = shown(county).values("zhichao_evidence_store_lock_state", "state")

    assert states == {"enforced": 1.0, "not_enforced": 0.0, "unsupported": 0.0, "unknown": 0.0}


def test_the_oldest_check_grows_old_also_when_the_scrubber_never_comes_to_an_end(county: RunningVideo) -> None:
    assert "zhichao_evidence_oldest_check_timestamp_seconds" not in shown(county).names
    sealed = county.clock.now()
    county.sealed()
    county.clock.advance(hours=5)
    county.sealed()

    found = shown(county)

    assert "zhichao_evidence_scrub_complete_timestamp_seconds" not in found.names
    assert found.value("zhichao_evidence_oldest_check_timestamp_seconds") == sealed.timestamp()


def test_what_is_missing_changed_and_wanted_is_shown(county: RunningVideo) -> None:
    held = [county.sealed() for _ in range(3)]
    for one, (state, damage) in zip(held, ((4, 11), (4, 12), (3, None)), strict=True):
        county.query("UPDATE objects SET state = %s, damage = %s WHERE digest = %s", state, damage, one.evidence.digest)

    found = shown(county)

    names = ("missing", "changed", "wanted")
    assert [found.value(f"zhichao_evidence_{name}_objects") for name in names] == [1, 1, 1]
    assert found.value("zhichao_evidence_unread_objects") == 0
    # What is wanted is not here.
    assert found.value("zhichao_evidence_objects") == 2


def test_uploads_that_broke_off_fill_the_spool(county: RunningVideo) -> None:
    content = photo()
    sent = next(iter(messages(content, draft_of(content, county.clock.now()), chunk_bytes=1_000)))
    with pytest.raises(grpc.RpcError):
        county.stub.UploadEvidence(iter([sent]), timeout=5)

    found = shown(county)

    assert found.value("zhichao_evidence_uploads") == 1
    assert found.value("zhichao_evidence_spool_bytes") == 1_000
    assert found.value("zhichao_evidence_spool_bytes_max") == 32 << 30


def test_what_the_store_does_not_do_is_counted_by_cause(
    video_of: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((store_watch, "CHECK_SECONDS"), (keeping, "STEP_SECONDS"), (background, "RETRY_SECONDS_MIN")):
        monkeypatch.setattr(module, name, 0.05)
    own_store = SeaweedServer(tmp_path)
    own_store.start()
    try:
        county = video_of(COUNTY, store_server=own_store)
        before = shown(county).values("zhichao_evidence_store_errors_total", "error")["unavailable"]
        own_store.stop()

        wait_until(
            lambda: shown(county).values("zhichao_evidence_store_errors_total", "error")["unavailable"] > before,
            "the errors are counted",
        )
        wait_until(lambda: shown(county).value("zhichao_evidence_store_reachable") == 0, "the store is away")
        troubles = shown(county).values("zhichao_evidence_store_trouble", "trouble")
        assert {name for name, value in troubles.items() if value} == {"unavailable"}
    finally:
        own_store.stop()
