"""Bytes that the store cannot give, or gives wrong: what a reader is told, and that the same bytes uploaded once more
are what the store gives, with the right word in their custody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.reasons import Reason
from services.video import background, keeping, scrubber
from services.video.keeping_parts import KeepingParts
from services.video.object_store import PutResult
from tests.video.bytes_read import actions, key_of, read, refusal, replace
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, RunningVideo
from tests.video.media_files import photo
from tests.video.stores.gateway import Gateway, error
from tests.video.stores.servers import SeaweedServer
from tests.video.transfer.carrying import read as carried
from tests.video.transfer.carrying import refusal_reason, state_of
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb


@dataclass
class Before:
    """A store behind a gateway."""

    url: str
    access_key_file: Path
    secret_key_file: Path
    ca_file: Path | None = None
    data: Path | None = None


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an object that cannot be read be tried again at once, and the scrubber look for it all the time."""
    monkeypatch.setattr(background, "RETRY_SECONDS_MIN", 0.05)
    monkeypatch.setattr(keeping, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(scrubber, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr("services.video.keeping_log.UNREAD_RETRY", timedelta())


def seen(county: RunningVideo, held: pb.HeldEvidence) -> str:
    """Read as somebody who looks at it, and return why that is refused."""
    return refusal(county, held).reason.name


def sent(county: RunningVideo, held: pb.HeldEvidence) -> str:
    """Read as a link does that carries it up, and return why that is refused."""
    return refusal_reason(lambda: carried(county, held.evidence.digest))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("refused", "known"),
    # Whoever carries it up is told that it cannot come, by whichever finding.
    [(seen, "EVIDENCE_CHANGED"), (sent, "EVIDENCE_MISSING")],
)
def test_a_reader_of_rotten_bytes_is_told_to_come_again_until_it_is_known(
    video_of: MakeVideo,
    evidence_store: SeaweedServer,
    refused: Callable[[RunningVideo, pb.HeldEvidence], str],
    known: str,
) -> None:
    rotten: set[str] = set()

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        # The store knows that the object is there; only its bytes it cannot give.
        return error("InternalError", 500) if method == "GET" and any(key in path for key in rotten) else None

    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        server = Before(gateway.url, evidence_store.access_key_file, evidence_store.secret_key_file)
        county = video_of(COUNTY, store_server=server)
        held, other = county.sealed(), county.sealed()
        rotten.add(key_of(held))

        first = refused(county, held)
        # Found by nobody but the reader: the scrubber reads nothing that was stored a moment ago.
        wait_until(lambda: state_of(county, held) == "DAMAGED", "the scrubber has tried it often enough")

        assert (first, refused(county, held)) == ("OBJECT_STORE_UNAVAILABLE", known)
        assert "FOUND_CHANGED" in actions(county, held)
        assert read(county, other).refusal is None
        assert actions(county, other) == ["VIEWED"]


@pytest.mark.parametrize("is_known", [True, False], ids=["found before", "not found before"])
def test_wrong_bytes_of_the_same_size_are_healed_by_the_right_ones(county: RunningVideo, is_known: bool) -> None:
    content = photo()
    first = county.sealed(content)
    replace(county, first, content[:-1] + bytes([content[-1] ^ 1]))
    if is_known:
        assert refusal(county, first).reason is Reason.EVIDENCE_CHANGED
    else:
        county.query("UPDATE objects SET stored_time = stored_time - interval '9 days'")

    again = county.sealed(content)

    assert actions(county, first)[-2:] == ["FOUND_CHANGED", "RESTORED"]
    assert (read(county, first).content, read(county, again).content) == (content, content)


def test_bytes_that_are_damaged_before_their_manifest_is_written_are_put_once_more(
    county: RunningVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = photo()
    first = county.sealed(content)
    put_checked = KeepingParts.put_checked
    times = 0

    def damaged_after(parts: KeepingParts, digest: bytes, size_bytes: int, put: Callable[[], PutResult]) -> None:
        nonlocal times
        put_checked(parts, digest, size_bytes, put)
        times += 1
        if times == 1:
            replace(county, first, content[:-1] + bytes([content[-1] ^ 1]))
            assert refusal(county, first).reason is Reason.EVIDENCE_CHANGED

    monkeypatch.setattr(KeepingParts, "put_checked", damaged_after)
    county.stop()
    county.start()

    again = county.sealed(content)

    assert times == 2
    assert actions(county, first) == ["VIEWED", "FOUND_CHANGED", "RESTORED"]
    assert read(county, again).content == content
