"""The evidence store goes away, loses its bucket, takes back its keys: each is told, nothing is lost, and all is well
again without a restart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video import background, keeping, store_watch
from services.video.object_store import StoreFullError, object_key
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, RunningVideo, draft_of
from tests.video.media_files import photo
from tests.video.stores.gateway import Gateway, error
from tests.video.stores.servers import SeaweedServer, harmful_client
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

ERRORS: dict[int, str] = {
    pb.STORE_TROUBLE_FULL: "StoreFullError",
    pb.STORE_TROUBLE_WRONG_CREDENTIALS: "WrongCredentialsError",
    pb.STORE_TROUBLE_UNAVAILABLE: "StoreUnavailableError",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service look at its store all the time: tests wait for what it sees."""
    monkeypatch.setattr(store_watch, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(keeping, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(background, "RETRY_SECONDS_MIN", 0.05)
    monkeypatch.setattr(background, "RETRY_SECONDS_MAX", 0.5)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[SeaweedServer]:
    """Run an S3 server that a test may stop."""
    running = SeaweedServer(tmp_path)
    running.start()
    yield running
    running.stop()


def status(county: RunningVideo) -> pb.GetStoreStatusResponse:
    """Ask what the store is."""
    answer: pb.GetStoreStatusResponse = county.call("GetStoreStatus", pb.GetStoreStatusRequest())
    return answer


def trouble(county: RunningVideo) -> tuple[int, bool]:
    """Return what keeps the store from its work, and whether that is told in a sentence and with a time."""
    found = status(county)
    return found.trouble, bool(found.trouble_detail) and found.HasField("trouble_time")


def unless_away(send: Callable[[], pb.HeldEvidence]) -> pb.HeldEvidence | None:
    """Return what a call seals; None where it is told that the store is away."""
    try:
        return send()
    except ServiceError as refused:
        if refused.reason is not Reason.OBJECT_STORE_UNAVAILABLE:
            raise
        return None


@dataclass
class Before:
    """A store behind something that answers for it."""

    url: str
    access_key_file: Path
    secret_key_file: Path
    ca_file: Path | None = None
    data: Path | None = None


def test_the_status_says_what_the_store_is_and_enforces(county: RunningVideo) -> None:
    county.sealed()
    county.sealed()

    wait_until(lambda: status(county).lock_test_time.seconds, "the locks are tested")
    wait_until(lambda: status(county).reconcile_time.seconds, "store and tables are compared")
    found = status(county)

    assert (found.endpoint, found.bucket) == (county.store_server.url, county.bucket)
    assert found.is_reachable
    assert found.lock_state == pb.LOCK_STATE_ENFORCED
    assert "refused to delete a locked version" in found.lock_detail
    assert found.object_count == 2
    assert found.object_bytes == sum(size for (size,) in county.query("SELECT size_bytes FROM objects"))
    assert (found.missing_count, found.changed_count, found.orphan_count, found.wanted_count) == (0, 0, 0, 0)


def test_the_status_counts_what_is_lost_and_changed(county: RunningVideo) -> None:
    lost, changed = county.sealed(), county.sealed()
    # Both are locked: nobody can do this to the store, but somebody can to its disk.
    for held, damage in ((lost, 11), (changed, 12)):
        county.query("UPDATE objects SET state = 4, damage = %s WHERE digest = %s", damage, held.evidence.digest)

    unread = county.sealed()
    county.query(
        "UPDATE objects SET unread_count = 1, unread_retry_time = now() + interval '1 day' WHERE digest = %s",
        unread.evidence.digest,
    )

    found = status(county)

    assert (found.object_count, found.missing_count, found.changed_count, found.unread_count) == (3, 1, 1, 1)


def test_uploads_wait_for_a_store_that_is_away_and_all_else_goes_on(
    video_of: MakeVideo, own_store: SeaweedServer
) -> None:
    county = video_of(COUNTY, store_server=own_store)
    before = county.sealed()
    own_store.stop()

    content = photo()
    draft = draft_of(content, county.clock.now())
    refused = county.upload_refusal(content, draft)

    assert (refused.status, refused.reason) == ("UNAVAILABLE", Reason.OBJECT_STORE_UNAVAILABLE)
    wait_until(lambda: not status(county).is_reachable, "the store is away")
    assert trouble(county) == (pb.STORE_TROUBLE_UNAVAILABLE, True)
    # What was seen first may be from while it stopped.
    wait_until(lambda: "nothing answers at" in status(county).trouble_detail, "the store has stopped")
    name = evidence_pb2.EvidenceName(
        source_unit_id=before.evidence.source_unit_id, evidence_id=before.evidence.evidence_id
    )
    found = county.call("GetEvidence", pb.GetEvidenceRequest(name=name)).held_evidence
    assert found.evidence == before.evidence
    # What came is kept, and sealed without being sent again.
    assert county.query("SELECT count(*) FROM evidence") == [(1,)]
    own_store.start()
    # It may answer before it can do all again: the call is sent again as callers are told to.
    held = wait_until(
        lambda: unless_away(lambda: county.upload(content, draft, offset=len(content)).held_evidence), "sealed"
    )
    assert held.evidence.digest == draft.digest
    wait_until(lambda: trouble(county) == (pb.STORE_TROUBLE_UNSPECIFIED, False), "the store is back")
    assert status(county).is_reachable


def test_a_service_starts_while_its_store_is_away(video_of: MakeVideo, own_store: SeaweedServer) -> None:
    own_store.stop()
    county = video_of(COUNTY, store_server=own_store)
    assert not status(county).is_reachable
    assert status(county).lock_state == pb.LOCK_STATE_UNSPECIFIED

    own_store.start()

    wait_until(lambda: status(county).is_reachable, "the store is there, and the bucket is made")
    county.sealed()


def test_a_bucket_that_vanished_is_not_replaced_by_an_empty_one(video_of: MakeVideo, own_store: SeaweedServer) -> None:
    # Without locks: a bucket with a locked object is not removed.
    harmful_client(own_store).make_bucket("removable")
    county = video_of(COUNTY, store_server=own_store, bucket="removable")
    held = county.sealed()
    county.stop()
    for found in list(harmful_client(own_store).list_objects("removable", recursive=True)):
        harmful_client(own_store).remove_object("removable", found.object_name or "")
    harmful_client(own_store).remove_bucket("removable")
    county.start()

    content = photo()
    refused = county.upload_refusal(content, draft_of(content, county.clock.now()))

    assert refused.reason is Reason.OBJECT_STORE_UNAVAILABLE
    assert not harmful_client(own_store).bucket_exists("removable")
    wait_until(lambda: trouble(county) == (pb.STORE_TROUBLE_BUCKET_MISSING, True), "the bucket is missed")
    assert not status(county).is_reachable
    # Somebody makes it: uploads go on, and what is lost is told.
    county.objects.ensure_bucket()
    wait_until(lambda: status(county).is_reachable, "the bucket is there")
    county.sealed()
    wait_until(lambda: status(county).missing_count == 1, "what is lost is found")
    assert county.query("SELECT state FROM objects WHERE digest = %s", held.evidence.digest) == [(4,)]


def test_keys_that_are_wrong_and_put_right_need_no_restart(video_of: MakeVideo, own_store: SeaweedServer) -> None:
    county = video_of(COUNTY, store_server=own_store)
    county.sealed()
    right = own_store.secret_key_file.read_text("ascii")
    own_store.secret_key_file.write_text("wrong-secret-key\n", "ascii")

    content = photo()
    draft = draft_of(content, county.clock.now())
    refused = county.upload_refusal(content, draft)

    assert refused.reason is Reason.OBJECT_STORE_UNAVAILABLE
    wait_until(lambda: not status(county).is_reachable, "the keys are refused")
    assert trouble(county) == (pb.STORE_TROUBLE_WRONG_CREDENTIALS, True)
    own_store.secret_key_file.write_text(right, "ascii")
    # What was refused meanwhile says nothing any more, before anybody stores anything.
    wait_until(lambda: trouble(county) == (pb.STORE_TROUBLE_UNSPECIFIED, False), "the keys are taken")
    assert county.upload(content, draft, offset=len(content)).held_evidence.evidence.digest == draft.digest


@pytest.mark.parametrize(
    ("code", "http_status", "kind"),
    [
        ("XMinioStorageFull", 507, pb.STORE_TROUBLE_FULL),
        ("AccessDenied", 403, pb.STORE_TROUBLE_WRONG_CREDENTIALS),
        ("SlowDownWrite", 503, pb.STORE_TROUBLE_UNAVAILABLE),
    ],
)
def test_a_store_that_answers_and_takes_nothing_is_in_trouble(
    video_of: MakeVideo, own_store: SeaweedServer, code: str, http_status: int, kind: int
) -> None:
    takes = {"objects": True}

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        refuses = method == "PUT" and "/sha256/" in path and not takes["objects"]
        return error(code, http_status) if refuses else None

    with Gateway(own_store.url.removeprefix("http://"), answer) as gateway:
        county = video_of(
            COUNTY, store_server=Before(gateway.url, own_store.access_key_file, own_store.secret_key_file)
        )
        there = photo()
        county.sealed(there)
        assert trouble(county) == (pb.STORE_TROUBLE_UNSPECIFIED, False)
        takes["objects"] = False
        content = photo()
        draft = draft_of(content, county.clock.now())

        with capture_logs() as logged:
            refused = county.upload_refusal(content, draft)
            another = photo()
            again = county.upload_refusal(another, draft_of(another, county.clock.now()))

        assert {refused.reason, again.reason} == {Reason.OBJECT_STORE_UNAVAILABLE}
        assert trouble(county) == (kind, True)
        assert status(county).is_reachable
        assert [one["error"] for one in logged if one["event"] == "store_write_refused"] == [ERRORS[kind]]
        # What the store has already is not sent to it: that says nothing of its room.
        county.sealed(there)
        assert trouble(county) == (kind, True)
        takes["objects"] = True
        county.upload(content, draft, offset=len(content))
        assert trouble(county) == (pb.STORE_TROUBLE_UNSPECIFIED, False)
        county.close()


def test_a_full_store_is_full_still_when_it_was_away(video_of: MakeVideo, own_store: SeaweedServer) -> None:
    county = video_of(COUNTY, store_server=own_store)
    watch = county.app.store_watch
    watch._writes.refused(StoreFullError("no room left 空间已满"))
    own_store.stop()
    wait_until(lambda: trouble(county)[0] == pb.STORE_TROUBLE_UNAVAILABLE, "the store is away")

    own_store.start()

    wait_until(lambda: trouble(county)[0] == pb.STORE_TROUBLE_FULL, "the store is back, and full")
    wait_until(lambda: unless_away(county.sealed), "something was taken")
    wait_until(lambda: trouble(county) == (pb.STORE_TROUBLE_UNSPECIFIED, False), "the store has room again")


def test_the_status_says_when_the_oldest_check_was(county: RunningVideo) -> None:
    assert not status(county).HasField("oldest_check_time")
    first, second = county.sealed(), county.sealed()
    for held, moment in ((first, "2026-02-03T04:05:06Z"), (second, "2026-03-04T05:06:07Z")):
        county.query("UPDATE objects SET scrub_time = %s WHERE digest = %s", moment, held.evidence.digest)

    assert status(county).oldest_check_time.ToJsonString() == "2026-02-03T04:05:06Z"


def test_bytes_that_are_uploaded_again_heal_what_was_changed(county: RunningVideo) -> None:
    content = photo()
    first = county.sealed(content)
    digest = first.evidence.digest
    county.query("UPDATE objects SET state = 4, damage = 12 WHERE digest = %s", digest)

    again = county.sealed(content)

    assert again.evidence.evidence_id != first.evidence.evidence_id
    assert county.query("SELECT state FROM objects WHERE digest = %s", digest) == [(1,)]
    assert county.query("SELECT count(*) FROM custody_events WHERE action = 13") == [(1,)]
    assert b"".join(county.objects.read(object_key(digest))) == content


def test_a_service_stops_while_its_store_is_away(video_of: MakeVideo, own_store: SeaweedServer) -> None:
    county = video_of(COUNTY, store_server=own_store)
    county.sealed()
    own_store.stop()
    wait_until(lambda: not status(county).is_reachable, "the store is away")

    county.stop()
    county.start()

    assert not status(county).is_reachable
