"""Legal holds and longer retention: here, from above, in the store, and in whatever order logs come."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from minio.error import S3Error

from services.common.access.permissions import Role
from services.common.errors import ServiceError
from services.common.instants import timestamp
from services.common.reasons import Reason
from services.video import lock_following
from tests.running_service import carry_down, carry_up
from tests.video.bytes_read import actions, events, key_of, remove
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, PROVINCE, UNIT, RunningVideo
from tests.video.stores.servers import harmful_client
from tests.video.transfer.carrying import Levels, name_of
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Let what comes from above reach the store soon: tests wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock_following, "STEP_SECONDS", 0.05)
        yield


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run the services of a county, its city and its province."""
    return Levels(county, video_of(CITY), video_of(PROVINCE))


def place(video: RunningVideo, held: pb.HeldEvidence, hold_id: str = "case-7", purpose: str = "立案调查") -> Any:
    """Place a hold and return the evidence."""
    request = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id=hold_id, purpose=purpose)
    return video.call("PlaceLegalHold", request).held_evidence


def release(video: RunningVideo, held: pb.HeldEvidence, hold_id: str = "case-7") -> Any:
    """Release a hold and return the evidence."""
    request = pb.ReleaseLegalHoldRequest(name=name_of(held), hold_id=hold_id, purpose="结案")
    return video.call("ReleaseLegalHold", request).held_evidence


def extend(video: RunningVideo, held: pb.HeldEvidence, **later: float) -> Any:
    """Keep evidence so much longer than it was sealed for, and return it."""
    until_time = held.evidence.retain_until_time.ToDatetime() + timedelta(**later)
    request = pb.ExtendRetentionRequest(name=name_of(held), retain_until_time=timestamp(until_time), purpose="案件未结")
    return video.call("ExtendRetention", request).held_evidence


def get(video: RunningVideo, held: pb.HeldEvidence) -> Any:
    """Return evidence as a platform holds it."""
    return video.call("GetEvidence", pb.GetEvidenceRequest(name=name_of(held))).held_evidence


def holds(held: Any) -> list[tuple[str, str]]:
    """Return the holds that stand: where they were placed, and their ids."""
    return [(hold.platform_code, hold.hold_id) for hold in held.holds]


def reason_of(refused: pytest.ExceptionInfo[ServiceError]) -> Reason:
    """Return why a call was refused."""
    return refused.value.reason


# Holds


def test_a_hold_stands_until_it_is_released(county: RunningVideo) -> None:
    held = county.sealed()

    placed, released = place(county, held), release(county, held)

    (hold,) = placed.holds
    assert (hold.platform_code, hold.hold_id, hold.purpose, hold.actor) == (
        COUNTY,
        "case-7",
        "立案调查",
        "person/tester",
    )
    assert hold.place_time == timestamp(county.clock.now())
    assert list(released.holds) == []
    assert actions(county, held) == ["HOLD_PLACED", "HOLD_RELEASED"]


def test_the_same_again_changes_nothing(county: RunningVideo) -> None:
    held = county.sealed()

    assert place(county, held) == place(county, held)
    assert release(county, held) == release(county, held)
    assert actions(county, held) == ["HOLD_PLACED", "HOLD_RELEASED"]


def test_an_id_that_stands_for_something_else_is_refused(county: RunningVideo) -> None:
    held = county.sealed()
    first = place(county, held)

    with pytest.raises(ServiceError) as refused:
        place(county, held, purpose="another case")

    assert reason_of(refused) is Reason.RESOURCE_EXISTS
    assert get(county, held) == first


def test_a_hold_may_be_placed_again(county: RunningVideo) -> None:
    held = county.sealed()
    place(county, held)
    release(county, held)

    again = place(county, held, purpose="重新立案")

    assert [hold.purpose for hold in again.holds] == ["重新立案"]


def test_one_id_may_hold_many_pieces(county: RunningVideo) -> None:
    one, other = county.sealed(), county.sealed()
    place(county, one)
    place(county, other)

    release(county, one)

    assert (holds(get(county, one)), holds(get(county, other))) == ([], [(COUNTY, "case-7")])


def test_what_was_never_placed_is_not_released(county: RunningVideo) -> None:
    held = county.sealed()

    with pytest.raises(ServiceError) as refused:
        release(county, held)

    assert (reason_of(refused), refused.value.metadata["resource_type"]) == (Reason.NOT_FOUND, "legal_hold")
    assert events(county, held) == []


@pytest.mark.parametrize("hold_id", ["", "a b", "x" * 65, "案件"])
def test_bad_fields_are_named(county: RunningVideo, hold_id: str) -> None:
    name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id="nothing")

    for method, request in (
        ("PlaceLegalHold", pb.PlaceLegalHoldRequest(name=name, hold_id=hold_id)),
        ("ReleaseLegalHold", pb.ReleaseLegalHoldRequest(name=name, hold_id=hold_id)),
    ):
        assert county.refusal(method, request).fields == ["hold_id", "purpose"]


@pytest.mark.parametrize("method", ["PlaceLegalHold", "ReleaseLegalHold", "ExtendRetention"])
@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.DATA_STEWARD])
def test_only_officers_hold(county: RunningVideo, method: str, role: Role) -> None:
    requests = {
        "PlaceLegalHold": pb.PlaceLegalHoldRequest(),
        "ReleaseLegalHold": pb.ReleaseLegalHoldRequest(),
        "ExtendRetention": pb.ExtendRetentionRequest(),
    }

    assert county.refusal(method, requests[method], county.person(role)).reason is Reason.PERMISSION_MISSING


def test_a_hold_of_the_province_stands_at_every_level(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    place(levels.province, held)
    levels.carry_all()

    assert [holds(get(video, held)) for video in levels] == [[(PROVINCE, "case-7")]] * 3
    # Only what was addressed comes down, and it comes once.
    assert [actions(video, held) for video in levels] == [["HOLD_PLACED"]] * 3
    assert all(video.parked() == [] for video in levels)

    release(levels.province, held)
    levels.carry_all()
    assert [holds(get(video, held)) for video in levels] == [[]] * 3


def test_nobody_else_releases_a_hold(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    place(levels.province, held)
    place(levels.city, held, "case-8")
    levels.carry_all()

    with pytest.raises(ServiceError) as refused:
        release(levels.county, held)
    release(levels.city, held, "case-8")
    levels.carry_all()

    assert (reason_of(refused), refused.value.metadata["origin"]) == (Reason.NOT_OWNED, PROVINCE)
    assert holds(get(levels.county, held)) == [(PROVINCE, "case-7")]


def test_two_platforms_may_use_the_same_id(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    place(levels.city, held)
    place(levels.county, held, purpose="县级保全")
    levels.carry_all()

    release(levels.county, held)
    levels.carry_all()

    assert [holds(get(video, held)) for video in levels] == [[(CITY, "case-7")]] * 3


def test_a_hold_that_comes_before_its_evidence_holds_it(levels: Levels) -> None:
    """The city is restored without the county's log: the province's hold is there before the manifest."""
    county, city, province = levels
    held = county.sealed()
    carry_up(county, city)
    carry_up(city, province)
    place(province, held)
    extend(province, held, days=100)
    for table in ("evidence", "evidence_subjects", "objects"):
        city.query(f"DELETE FROM {table}")  # noqa: S608 - our own names
    carry_down(province, city)

    rows = county.query("SELECT * FROM evidence")
    city.query(f"INSERT INTO evidence VALUES ({', '.join(['%s'] * len(rows[0]))})", *rows[0])  # noqa: S608 - placeholders

    assert holds(get(city, held)) == [(PROVINCE, "case-7")]
    assert get(city, held).retain_until_time == get(province, held).retain_until_time


# Retention


def test_evidence_is_kept_longer(county: RunningVideo) -> None:
    held = county.sealed()

    longer, longest = extend(county, held, days=30), extend(county, held, days=60)
    same = extend(county, held, days=60)

    assert longer.retain_until_time.seconds - held.retain_until_time.seconds == 30 * 86_400
    assert longest.retain_until_time.seconds - held.retain_until_time.seconds == 60 * 86_400
    assert longest.evidence == held.evidence
    assert same == longest
    assert [event.until_time for event in events(county, held)] == [longer.retain_until_time, longest.retain_until_time]


def test_retention_is_never_shortened(county: RunningVideo) -> None:
    held = county.sealed()
    longer = extend(county, held, days=30)

    with pytest.raises(ServiceError) as refused:
        extend(county, held, days=30, microseconds=-1)

    assert reason_of(refused) is Reason.RETENTION_SHORTENED
    assert refused.value.metadata["retain_until_time"].startswith(
        longer.retain_until_time.ToDatetime().isoformat()[:19]
    )
    assert get(county, held).retain_until_time == longer.retain_until_time
    assert actions(county, held) == ["RETENTION_EXTENDED"]


def test_the_end_that_is_in_force_changes_nothing(county: RunningVideo) -> None:
    held = county.sealed()

    assert extend(county, held) == held
    assert events(county, held) == []


def test_thirty_years_are_the_most(county: RunningVideo) -> None:
    held = county.sealed()
    now = county.clock.now()
    request = pb.ExtendRetentionRequest(name=name_of(held), purpose="案件未结")
    request.retain_until_time.CopyFrom(timestamp(now + timedelta(days=30 * 365)))
    county.call("ExtendRetention", request)

    request.retain_until_time.CopyFrom(timestamp(now + timedelta(days=31 * 366)))
    beyond = county.refusal("ExtendRetention", request)
    request.ClearField("retain_until_time")
    missing = county.refusal("ExtendRetention", request)
    request.retain_until_time.seconds = 1 << 60
    no_time = county.refusal("ExtendRetention", request)

    assert [one.fields for one in (beyond, missing, no_time)] == [["retain_until_time"]] * 3


def test_an_extension_of_the_province_holds_at_every_level(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    extend(levels.county, held, days=10)
    extend(levels.province, held, days=90)
    levels.carry_all()

    until = {get(video, held).retain_until_time.seconds - held.retain_until_time.seconds for video in levels}
    assert until == {90 * 86_400}


# Bytes that are gone


def test_what_was_deleted_is_not_said_to_be_kept(county: RunningVideo) -> None:
    held = county.sealed()
    county.query("UPDATE objects SET state = 5, purge_time = now() WHERE digest = %s", held.evidence.digest)

    attempts: list[Callable[[], Any]] = [lambda: place(county, held), lambda: extend(county, held, days=1)]
    for attempt in attempts:
        with pytest.raises(ServiceError) as refused:
            attempt()
        assert reason_of(refused) is Reason.BYTES_EXPIRED
    assert events(county, held) == []


# The store


def is_held_in_store(video: RunningVideo, held: pb.HeldEvidence) -> bool:
    """Tell whether the store keeps the object whatever anybody says."""
    try:
        return bool(harmful_client(video.store_server).is_object_legal_hold_enabled(video.bucket, key_of(held)))
    except S3Error as error:
        if error.code != "NoSuchObjectLegalHold":
            raise
        return False


def locked_until(video: RunningVideo, held: pb.HeldEvidence) -> int:
    """Return until when the store keeps the object."""
    found = harmful_client(video.store_server).get_object_retention(video.bucket, key_of(held))
    return int(found.retain_until_date.timestamp()) if found is not None else 0


def test_the_store_follows_holds_and_retention(county: RunningVideo) -> None:
    held = county.sealed()

    place(county, held)
    wait_until(lambda: is_held_in_store(county, held), "the store holds it")
    longer = extend(county, held, days=30)
    wait_until(lambda: locked_until(county, held) == longer.retain_until_time.seconds, "the store keeps it longer")
    release(county, held)
    wait_until(lambda: not is_held_in_store(county, held), "the store lets go")

    wait_until(lambda: county.query("SELECT count(*) FROM lock_changes") == [(0,)], "all is followed")


def test_the_store_holds_as_long_as_any_evidence_with_these_bytes_is_held(county: RunningVideo) -> None:
    one = county.sealed()
    content = county.objects.read(key_of(one))
    other = county.sealed(b"".join(content))
    place(county, one)
    place(county, other, "case-8")
    wait_until(lambda: is_held_in_store(county, one), "the store holds it")

    release(county, one)
    wait_until(lambda: county.query("SELECT count(*) FROM lock_changes") == [(0,)], "all is followed")

    assert is_held_in_store(county, one)


def test_a_hold_from_above_reaches_the_store_also_after_it_was_away(levels: Levels) -> None:
    county = levels.county
    held = county.sealed()
    levels.carry_all()
    county.stop()
    endpoint = county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"]
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = "http://127.0.0.1:9"
    county.start()

    place(levels.province, held)
    levels.carry_all()

    assert holds(get(county, held)) == [(PROVINCE, "case-7")]
    assert not is_held_in_store(county, held)
    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = endpoint
    county.start()
    wait_until(lambda: is_held_in_store(county, held), "the store holds it")


def test_a_lock_that_is_due_finds_lost_bytes(county: RunningVideo) -> None:
    held = county.sealed()
    remove(county, held)

    place(county, held)

    wait_until(lambda: "FOUND_MISSING" in actions(county, held), "the loss is written down")
    assert holds(get(county, held)) == [(COUNTY, "case-7")]
