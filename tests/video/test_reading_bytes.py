"""ReadEvidence: ranges, what is written down before, what the store has lost or changed, who goes away or is slow."""

import threading
from typing import Any

import pytest

from services.common.access.permissions import Role
from services.common.reasons import Reason
from services.video.s3_reader import S3Reader
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_up
from tests.video.bytes_read import PURPOSE, actions, events, read, refusal, remove, replace, request_of
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, UNIT, RunningVideo
from tests.video.media_files import large_photo, photo
from tests.video.transfer.carrying import name_of, state_of
from tests.waiting import wait_until
from zhichao.video.v1 import custody_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

CHUNK = 1 << 20


@pytest.fixture(scope="module")
def large() -> bytes:
    """Return a photo of four messages."""
    return large_photo(3 << 20)


def test_the_whole_comes_in_messages_of_a_mebibyte(county: RunningVideo, large: bytes) -> None:
    held = county.sealed(large)

    came = read(county, held)

    assert came.refusal is None
    assert came.content == large
    assert [len(message.chunk) for message in came.messages[:-1]] == [CHUNK] * (len(came.messages) - 1)
    assert (came.messages[0].size_bytes, came.messages[0].content_type) == (len(large), "image/jpeg")
    assert {(message.size_bytes, message.content_type) for message in came.messages[1:]} == {(0, "")}


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (1, 0), (CHUNK - 1, 2), (CHUNK, CHUNK), (5, 3 * CHUNK), (0, 1 << 40), (2 * CHUNK + 7, 1 << 62)],
)
def test_a_part_comes_as_it_was_asked_for(county: RunningVideo, large: bytes, offset: int, length: int) -> None:
    held = county.sealed(large)

    came = read(county, held, offset=offset, length=length)

    assert came.content == large[offset : offset + length if length else None]
    assert came.messages[0].size_bytes == len(large)


def test_a_download_that_is_complete_may_be_resumed(county: RunningVideo) -> None:
    content = photo()
    held = county.sealed(content)

    came = read(county, held, offset=len(content), is_download=True)
    beyond = refusal(county, held, offset=len(content) + 1)

    assert (came.refusal, came.content, came.messages[0].size_bytes) == (None, b"", len(content))
    assert (beyond.reason, beyond.metadata["size_bytes"]) == (Reason.BEYOND_END, str(len(content)))


def test_it_is_written_down_who_looks_and_who_keeps(county: RunningVideo) -> None:
    held = county.sealed()
    officer = county.person(Role.OFFICER, name="officer-7")

    read(county, held, officer)
    read(county, held, officer, is_download=True, purpose="case 7")

    viewed, downloaded = events(county, held)
    assert (viewed.action, viewed.purpose, viewed.actor) == (
        custody_pb2.CUSTODY_ACTION_VIEWED,
        PURPOSE,
        "person/officer-7",
    )
    assert (downloaded.action, downloaded.purpose) == (custody_pb2.CUSTODY_ACTION_DOWNLOADED, "case 7")
    assert viewed.digest == held.evidence.digest
    assert viewed.event_time.ToDatetime() == county.clock.now().replace(tzinfo=None)


def test_nothing_is_sent_when_it_cannot_be_written_down(county: RunningVideo) -> None:
    held = county.sealed()
    county.query("UPDATE journal_logs SET is_recovering = TRUE WHERE origin = %s", COUNTY)

    came = read(county, held)

    county.query("UPDATE journal_logs SET is_recovering = FALSE WHERE origin = %s", COUNTY)
    assert came.refusal is not None
    assert (came.refusal.reason, came.messages) == (Reason.RECOVERING, [])
    assert events(county, held) == []


def test_every_bad_field_is_named_and_nothing_is_written(county: RunningVideo) -> None:
    held = county.sealed()

    refused = refusal(
        county,
        held,
        name=evidence_pb2.EvidenceName(origin="x", source_unit_id="?", evidence_id="a b"),
        rendition=9,
        offset=-1,
        length=-1,
        purpose="\x1b[31m",
    )

    assert refused.reason is Reason.INVALID_ARGUMENT
    assert [one.field for one in refused.field_violations] == [
        "name.origin",
        "name.source_unit_id",
        "name.evidence_id",
        "rendition",
        "offset",
        "length",
        "purpose",
    ]
    assert "\x1b" not in refused.message
    assert events(county, held) == []


@pytest.mark.parametrize("purpose", ["", " ", "a" * 257, "line\nline", "a\u202eb"])
def test_a_purpose_is_demanded(county: RunningVideo, purpose: str) -> None:
    held = county.sealed()

    assert refusal(county, held, purpose=purpose).reason is Reason.INVALID_ARGUMENT
    assert events(county, held) == []


def test_a_purpose_has_up_to_256_characters(county: RunningVideo) -> None:
    held = county.sealed()

    read(county, held, purpose="案" * 256)

    assert [event.purpose for event in events(county, held)] == ["案" * 256]


def test_what_is_not_held_is_not_found(county: RunningVideo) -> None:
    held = county.sealed()
    name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id="nothing")

    refused = refusal(county, held, name=name)

    assert (refused.reason, refused.metadata["resource_id"]) == (Reason.NOT_FOUND, f"{COUNTY}/{UNIT}/nothing")


# Lost and changed


def test_lost_bytes_are_told_and_written_down_once(county: RunningVideo) -> None:
    content = photo()
    first, second = county.sealed(content), county.sealed(content)
    remove(county, first)

    refused = [refusal(county, held) for held in (first, second, first)]

    assert {one.reason for one in refused} == {Reason.EVIDENCE_MISSING}
    assert refused[0].metadata["digest"] == first.evidence.digest.hex()
    assert state_of(county, first) == state_of(county, second) == "DAMAGED"
    for held in (first, second):
        (found,) = events(county, held)
        assert (found.action, found.actor) == (custody_pb2.CUSTODY_ACTION_FOUND_MISSING, "service/video")


def test_changed_bytes_of_one_message_are_not_sent_at_all(county: RunningVideo) -> None:
    content = photo()
    held = county.sealed(content)
    replace(county, held, content[:-1] + bytes([content[-1] ^ 1]))

    came = read(county, held)
    again = refusal(county, held)

    assert came.refusal is not None
    assert (came.refusal.reason, came.content) == (Reason.EVIDENCE_CHANGED, b"")
    assert again.reason is Reason.EVIDENCE_CHANGED
    assert state_of(county, held) == "DAMAGED"
    # Somebody looked, as was written down before; what came out was written once.
    assert actions(county, held) == ["VIEWED", "FOUND_CHANGED"]


def test_changed_bytes_are_not_sent_to_their_end(county: RunningVideo, large: bytes) -> None:
    held = county.sealed(large)
    replace(county, held, bytes([large[0] ^ 1]) + large[1:])

    came = read(county, held)

    assert came.refusal is not None
    assert came.refusal.reason is Reason.EVIDENCE_CHANGED
    assert len(came.content) < len(large)


@pytest.mark.parametrize("change", [b"", b"\x00"])
@pytest.mark.parametrize("fields", [{}, {"offset": 3, "length": 10}])
def test_an_object_of_another_size_is_another_one(county: RunningVideo, change: bytes, fields: dict[str, Any]) -> None:
    content = photo()
    held = county.sealed(content)
    replace(county, held, content + change if change else content[:-1])

    came = read(county, held, **fields)

    assert came.refusal is not None
    assert (came.refusal.reason, came.content) == (Reason.EVIDENCE_CHANGED, b"")


def test_the_store_is_away(video_of: MakeVideo, county: RunningVideo) -> None:
    held = county.sealed()
    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = "http://127.0.0.1:9"
    county.start()

    refused = refusal(county, held)

    assert refused.reason is Reason.OBJECT_STORE_UNAVAILABLE
    assert refused.retry_after_seconds
    assert state_of(county, held) == "HELD"
    assert events(county, held) == []


# Who may, and what is elsewhere


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.DATA_STEWARD, Role.SYSTEM_ADMINISTRATOR])
def test_only_officers_see_bytes(county: RunningVideo, role: Role) -> None:
    held = county.sealed()

    came = read(county, held, county.person(role))

    assert came.refusal is not None
    assert came.refusal.reason is Reason.PERMISSION_MISSING
    assert events(county, held) == []


def test_a_terminal_does_not_see_bytes(county: RunningVideo) -> None:
    held = county.sealed()

    came = read(county, held, county.terminal(UNIT))

    assert came.refusal is not None
    assert came.refusal.reason is Reason.PERMISSION_MISSING


def test_bytes_that_are_below_are_to_be_asked_for(county: RunningVideo, video_of: MakeVideo) -> None:
    held = county.sealed()
    city = video_of(CITY)
    carry_up(county, city)

    refused = refusal(city, held)
    preview = refusal(city, held, rendition=pb.EVIDENCE_RENDITION_THUMBNAIL)

    assert (refused.reason, refused.metadata["origin"]) == (Reason.BYTES_NOT_HERE, COUNTY)
    assert preview.reason is Reason.BYTES_NOT_HERE
    assert events(city, held) == []


def test_bytes_that_were_deleted_after_their_retention(county: RunningVideo) -> None:
    held = county.sealed()
    county.query("UPDATE objects SET state = 5, purge_time = now() WHERE digest = %s", held.evidence.digest)

    assert refusal(county, held).reason is Reason.BYTES_EXPIRED


def test_previews_are_read_like_the_original(county: RunningVideo) -> None:
    held = county.sealed()
    name = name_of(held)
    wait_until(
        lambda: county.call("GetEvidence", pb.GetEvidenceRequest(name=name)).held_evidence.has_preview, "a preview"
    )

    whole = read(county, held, rendition=pb.EVIDENCE_RENDITION_THUMBNAIL)
    part = read(county, held, rendition=pb.EVIDENCE_RENDITION_THUMBNAIL, offset=2, length=5)
    poster = refusal(county, held, rendition=pb.EVIDENCE_RENDITION_POSTER)

    assert whole.content.startswith(b"\xff\xd8\xff")
    assert (whole.messages[0].size_bytes, whole.messages[0].content_type) == (len(whole.content), "image/jpeg")
    assert part.content == whole.content[2:7]
    # A photo is its own poster.
    assert poster.reason is Reason.NOT_FOUND
    assert actions(county, held) == ["VIEWED", "VIEWED"]


# Who goes away, and who is slow


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "video-read-ahead"]


def test_nothing_is_read_for_who_has_gone(county: RunningVideo) -> None:
    held = county.sealed(large_photo(16 << 20))
    call = county.stub.ReadEvidence(request_of(held), timeout=TIMEOUT_SECONDS)
    next(call)

    call.cancel()

    wait_until(lambda: not _readers(), "nobody reads from the store")


def test_a_slow_reader_holds_little_memory(county: RunningVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what lies in the store only so much is read as fits on the way: flow control goes all the way."""
    taken: list[int] = []
    read_next = S3Reader.__next__

    def counted(reader: S3Reader) -> bytes:
        chunk = read_next(reader)
        taken.append(len(chunk))
        return chunk

    monkeypatch.setattr(S3Reader, "__next__", counted)
    content = large_photo(32 << 20)
    held = county.sealed(content)
    taken.clear()
    call = county.stub.ReadEvidence(request_of(held), timeout=TIMEOUT_SECONDS)
    came = [next(call).chunk]

    seen: list[int] = []

    def has_stopped() -> bool:
        seen.append(len(taken))
        # So many looks, ten milliseconds apart, at the same count.
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    wait_until(has_stopped, "the store is read no further")
    ahead = sum(taken) - len(came[0])
    came += [message.chunk for message in call]

    assert ahead < len(content) / 2
    assert b"".join(came) == content
