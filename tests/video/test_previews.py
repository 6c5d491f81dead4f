"""Posters and thumbnails: drawn after the seal, upright, of what is held here, and never in anybody's way."""

import io
import secrets
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image

from services.common.database import create_engine
from services.video import previews
from services.video.inspecting_process import InspectingProcesses, Previews
from services.video.media_types import ContentRefused, InspectionUnavailable
from services.video.object_store import ObjectStore, StoreUnavailableError, object_key, rendition_key
from services.video.previews import PreviewMaker
from tests.video.harness import COUNTY, RunningVideo
from tests.video.media_files import clip, jpeg, pdf, photo, unlike
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

MakeVideo = Callable[..., RunningVideo]

TIMEOUT_SECONDS = 30


def read(county: RunningVideo, held: pb.HeldEvidence, rendition: pb.EvidenceRendition.ValueType) -> Image.Image:
    """Read a preview as people's screens do."""
    name = evidence_pb2.EvidenceName(source_unit_id=held.evidence.source_unit_id, evidence_id=held.evidence.evidence_id)
    request = pb.ReadEvidenceRequest(name=name, rendition=rendition, purpose="a test")
    answers = list(county.stub.ReadEvidence(request, timeout=TIMEOUT_SECONDS))
    assert answers[0].content_type == "image/jpeg"
    return Image.open(io.BytesIO(b"".join(answer.chunk for answer in answers)))


def state(county: RunningVideo, held: pb.HeldEvidence) -> tuple[bool, bool]:
    """Tell whether there are previews, and whether they are still to be drawn."""
    rows = county.query(
        "SELECT has_preview, preview_due_time IS NOT NULL FROM objects WHERE digest = %s", held.evidence.digest
    )
    return rows[0][0], rows[0][1]


def is_drawn(county: RunningVideo, held: pb.HeldEvidence) -> Callable[[], bool]:
    return lambda: state(county, held) == (True, False)


def sealed_clip(county: RunningVideo, content: bytes) -> pb.HeldEvidence:
    """Upload a clip that is like no other."""
    content += struct.pack(">I4s", 24, b"free") + secrets.token_bytes(16)
    now = county.clock.now()
    return county.sealed(
        content,
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        content_type="video/mp4",
        capture_start_time=now - timedelta(minutes=1),
        capture_end_time=now,
    )


def test_a_photo_gets_a_thumbnail(county: RunningVideo) -> None:
    held = county.sealed(photo())
    wait_until(is_drawn(county, held), "the thumbnail is drawn")
    assert read(county, held, pb.EVIDENCE_RENDITION_THUMBNAIL).size == (320, 180)
    request = pb.GetEvidenceRequest(
        name=evidence_pb2.EvidenceName(
            source_unit_id=held.evidence.source_unit_id, evidence_id=held.evidence.evidence_id
        )
    )
    assert county.call("GetEvidence", request).held_evidence.has_preview
    # A poster is a frame of a clip.
    assert list(county.objects.list(rendition_key(held.evidence.digest, "poster"))) == []


def test_a_clip_gets_a_poster_and_a_thumbnail(county: RunningVideo) -> None:
    held = sealed_clip(county, clip(1920, 1080, seconds=1))
    wait_until(is_drawn(county, held), "poster and thumbnail are drawn")
    assert read(county, held, pb.EVIDENCE_RENDITION_POSTER).size == (1280, 720)
    assert read(county, held, pb.EVIDENCE_RENDITION_THUMBNAIL).size == (320, 180)


def is_red(image: Image.Image, corner: tuple[float, float]) -> bool:
    """Tell whether the picture is red there, in shares of its width and height."""
    found: Any = image.convert("RGB").getpixel((int(corner[0] * image.width), int(corner[1] * image.height)))
    return bool(found[0] > 180 and found[1] < 90 and found[2] < 90)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    # The corner that is the first one stored (CIPA DC-008, 4.6.5, tag 274).
    [(1, (0.1, 0.1)), (3, (0.9, 0.9)), (6, (0.9, 0.1)), (8, (0.1, 0.9))],
)
def test_photos_are_drawn_upright(county: RunningVideo, orientation: int, corner: tuple[float, float]) -> None:
    held = county.sealed(unlike(jpeg(800, 600, orientation=orientation)))
    wait_until(is_drawn(county, held), "the thumbnail is drawn")
    assert is_red(read(county, held, pb.EVIDENCE_RENDITION_THUMBNAIL), corner)


# Matrices of the track header (ISO/IEC 14496-12, 8.3.2): a, b, c, d; a picture held so is turned clockwise to be seen.
TURNED = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def turned(content: bytes, degrees: int) -> bytes:
    """Return a clip with another matrix in its track header."""
    # Behind the header of the box: version, flags, two times, id, reserved, duration, reserved, layer to volume.
    at = content.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8
    a, b, c, d = (value << 16 for value in TURNED[degrees])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return content[:at] + matrix + content[at + len(matrix) :]


@pytest.mark.parametrize(
    ("degrees", "corner", "size"),
    [
        (0, (0.1, 0.1), (320, 240)),
        (90, (0.9, 0.1), (240, 320)),
        (180, (0.9, 0.9), (320, 240)),
        (270, (0.1, 0.9), (240, 320)),
    ],
)
def test_clips_are_drawn_upright(
    county: RunningVideo, degrees: int, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    held = sealed_clip(county, turned(clip(), degrees))
    assert (held.evidence.media.width_px, held.evidence.media.height_px) == size
    wait_until(is_drawn(county, held), "poster and thumbnail are drawn")
    for rendition in (pb.EVIDENCE_RENDITION_POSTER, pb.EVIDENCE_RENDITION_THUMBNAIL):
        image = read(county, held, rendition)
        assert image.size == size
        assert is_red(image, corner)


def test_a_preview_tells_nothing_but_the_picture(county: RunningVideo) -> None:
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0110] = "a camera's name"
    exif.get_ifd(0x8825)[1] = "N"
    Image.open(io.BytesIO(jpeg())).save(content, "JPEG", exif=exif, comment=b"a comment")
    held = county.sealed(unlike(content.getvalue()))
    wait_until(is_drawn(county, held), "the thumbnail is drawn")
    image = read(county, held, pb.EVIDENCE_RENDITION_THUMBNAIL)
    assert dict(image.getexif()) == {}
    assert "comment" not in image.info


def test_of_a_document_nothing_is_drawn(county: RunningVideo) -> None:
    held = county.sealed(
        pdf(2) + b"\n" * secrets.randbelow(200),
        kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT,
        content_type="application/pdf",
        view=None,
        camera_id=None,
    )
    wait_until(lambda: state(county, held) == (False, False), "nothing is to be drawn")
    assert list(county.objects.list("renditions/")) == []


def test_what_was_not_drawn_before_a_stop_is_drawn_after_the_start(county: RunningVideo) -> None:
    held = county.sealed(photo())
    wait_until(is_drawn(county, held), "the thumbnail is drawn")
    county.stop()
    county.objects.delete(rendition_key(held.evidence.digest, "thumbnail"))
    county.query("UPDATE objects SET has_preview = FALSE, preview_due_time = now() - interval '1 hour'")
    county.start()
    wait_until(is_drawn(county, held), "the thumbnail is drawn again")
    assert read(county, held, pb.EVIDENCE_RENDITION_THUMBNAIL).size == (320, 180)


def test_the_same_bytes_are_drawn_once(county: RunningVideo) -> None:
    content = photo()
    first = county.sealed(content)
    wait_until(is_drawn(county, first), "the thumbnail is drawn")
    second = county.sealed(content)
    assert second.has_preview
    assert state(county, second) == (True, False)


def test_an_upload_does_not_wait_for_pictures(county: RunningVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, may_go = threading.Event(), threading.Event()

    def wait(*_: Any) -> Previews:
        entered.set()
        assert may_go.wait(TIMEOUT_SECONDS)
        raise InspectionUnavailable

    monkeypatch.setattr(InspectingProcesses, "draw_ranges", wait)
    try:
        first = county.sealed(photo())
        assert entered.wait(TIMEOUT_SECONDS)
        second = county.sealed(photo())
        assert [state(county, one) for one in (first, second)] == [(False, True)] * 2
    finally:
        may_go.set()


# Faults, one step at a time


class Faulty:
    """A store that fails as it is told."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.before_put: Callable[[], None] = lambda: None

    def put_rendition(self, key: str, content: bytes, content_type: str) -> None:
        self.before_put()
        self._objects.put_rendition(key, content, content_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


class Steps:
    """The maker of a county whose service is stopped, by steps."""

    def __init__(self, county: RunningVideo) -> None:
        self.county = county
        self.store = Faulty(county.objects)
        self.drawing = InspectingProcesses(1)
        self.engine = create_engine(county.database_url, pool_size=2, application_name="test")
        self.maker = PreviewMaker(self.engine, self.store, self.drawing, county.clock)

    def close(self) -> None:
        self.drawing.stop()
        self.engine.dispose()


@pytest.fixture
def stopped(video_of: MakeVideo) -> RunningVideo:
    """Run a county whose store lets objects go; it stops before anything is drawn."""
    return video_of(COUNTY, settings={"ZHICHAO_VIDEO_OBJECT_LOCK": "off"})


@pytest.fixture
def held(stopped: RunningVideo, monkeypatch: pytest.MonkeyPatch) -> pb.HeldEvidence:
    """Seal a photo on a county whose service then stops without having drawn anything."""
    monkeypatch.setattr(PreviewMaker, "step", lambda _: 60.0)
    sealed = stopped.sealed(photo())
    stopped.stop()
    monkeypatch.undo()
    return sealed


@pytest.fixture
def steps(stopped: RunningVideo, held: pb.HeldEvidence) -> Iterator[Steps]:
    made = Steps(stopped)
    yield made
    made.close()


def thumbnails(county: RunningVideo) -> list[str]:
    return [found.key for found in county.objects.list("renditions/")]


def test_a_step_draws_what_is_due_and_then_nothing(steps: Steps, held: pb.HeldEvidence) -> None:
    assert state(steps.county, held) == (False, True)
    assert steps.maker.step() == previews.IDLE_SECONDS
    assert state(steps.county, held) == (True, False)
    assert thumbnails(steps.county) == [rendition_key(held.evidence.digest, "thumbnail")]


def test_while_the_store_is_away_it_is_put_off(steps: Steps, held: pb.HeldEvidence) -> None:
    def fail() -> None:
        raise StoreUnavailableError("away")

    steps.store.before_put = fail
    with pytest.raises(StoreUnavailableError):
        steps.maker.step()
    assert state(steps.county, held) == (False, True)
    # Not before some time has passed.
    steps.store.before_put = lambda: None
    steps.maker.step()
    assert state(steps.county, held) == (False, True)
    steps.county.clock.advance(seconds=previews.AWAY_RETRY.total_seconds())
    steps.maker.step()
    assert state(steps.county, held) == (True, False)


def test_an_object_that_is_missing_is_tried_less_and_less_often(steps: Steps, held: pb.HeldEvidence) -> None:
    content = b"".join(steps.county.objects.read(object_key(held.evidence.digest)))
    steps.county.objects.delete(object_key(held.evidence.digest))
    for failures, minutes in ((0, 1), (1, 2), (10, 1024), (11, 24 * 60), (1000, 24 * 60)):
        steps.county.query("UPDATE objects SET preview_failures = %s", failures)
        steps.maker.step()
        ((due, counted),) = steps.county.query("SELECT preview_due_time, preview_failures FROM objects")
        assert (due - steps.county.clock.now(), counted) == (timedelta(minutes=minutes), failures + 1)
        steps.county.clock.advance(minutes=minutes)
    # Somebody has brought it back.
    steps.county.objects.put(held.evidence.digest, content, len(content))
    steps.maker.step()
    assert state(steps.county, held) == (True, False)


def test_what_cannot_be_drawn_is_not_tried_for_ever(
    steps: Steps, held: pb.HeldEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Previews:
        raise ContentRefused("No", "不")

    monkeypatch.setattr(steps.drawing, "draw_ranges", refuse)
    steps.maker.step()
    assert state(steps.county, held) == (False, False)


def test_without_a_process_everything_waits(
    steps: Steps, held: pb.HeldEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Previews:
        raise InspectionUnavailable("none can be started")

    monkeypatch.setattr(steps.drawing, "draw_ranges", fail)
    assert steps.maker.step() == previews.AWAY_RETRY.total_seconds()
    assert state(steps.county, held) == (False, True)


def test_a_maker_that_was_killed_leaves_it_to_the_next(steps: Steps, held: pb.HeldEvidence) -> None:
    class KilledError(BaseException):
        pass

    def die() -> None:
        raise KilledError

    steps.store.before_put = die
    with pytest.raises(KilledError):
        steps.maker.step()
    steps.store.before_put = lambda: None
    steps.maker.step()
    # Somebody may be drawing it; after a while nobody is.
    assert state(steps.county, held) == (False, True)
    steps.county.clock.advance(seconds=previews.LEASE.total_seconds())
    steps.maker.step()
    assert state(steps.county, held) == (True, False)


def test_two_makers_do_not_draw_the_same(steps: Steps, held: pb.HeldEvidence) -> None:
    other = PreviewMaker(steps.engine, steps.county.objects, steps.drawing, steps.county.clock)
    steps.store.before_put = lambda: assert_idle(other)
    steps.maker.step()
    assert state(steps.county, held) == (True, False)


def assert_idle(maker: PreviewMaker) -> None:
    assert maker.step() == previews.IDLE_SECONDS


def test_of_bytes_that_are_deleted_meanwhile_no_picture_stays(steps: Steps, held: pb.HeldEvidence) -> None:
    steps.store.before_put = lambda: steps.county.query("UPDATE objects SET state = 5").clear()
    steps.maker.step()
    assert thumbnails(steps.county) == []
    assert state(steps.county, held)[0] is False


def test_what_is_not_held_is_not_drawn(steps: Steps, held: pb.HeldEvidence) -> None:
    for number in (2, 3, 4, 5):
        steps.county.query("UPDATE objects SET state = %s", number)
        assert steps.maker.step() == previews.IDLE_SECONDS
    assert thumbnails(steps.county) == []
