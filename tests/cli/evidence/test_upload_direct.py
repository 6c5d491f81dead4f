"""`zhichao evidence upload --direct` while the platform or its store is busy, away, or has lost a part."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import grpc
import pytest
from click.testing import CliRunner

from cli import evidence_transfer
from cli.evidence_transfer import EXIT_BROKEN_OFF, BrokenOffError, Retries
from cli.evidence_upload_direct import upload_direct
from cli.main import main
from services.common.access.permissions import Role
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.video.conftest import MakeVideo, county_registry, day, evidence_store, video_of
from tests.video.direct_uploads import clip_draft, complete, large_clip, prepare, put_all
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo
from tests.video.stores.gateway import Gateway
from tests.video.stores.servers import Server
from zhichao.video.v1 import service_pb2 as pb

__all__ = ["county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.

Answer = Callable[[str, str], tuple[int, bytes] | None]


class Trouble:
    """What stands between a platform and its store, and passes by at the first pause of who uploads."""

    def __init__(self) -> None:
        self.answer: Answer = lambda method, path: None
        self.on_pause: Callable[[], object] = lambda: None
        self.pauses = 0

    def asked(self, method: str, path: str) -> tuple[int, bytes] | None:
        """Answer as it does now."""
        return self.answer(method, path)

    def pause(self, seconds: float) -> None:
        """Pass no time."""
        assert seconds > 0
        self.pauses += 1
        self.on_pause()
        self.answer = lambda method, path: None


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def county(video_of: MakeVideo, evidence_store: Server, trouble: Trouble) -> Iterator[RunningVideo]:
    """Run a county whose store, for itself and for callers, may have trouble."""
    with Gateway(evidence_store.url.removeprefix("http://"), trouble.asked) as gateway:
        settings = {
            "ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url,
            "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT": gateway.url,
            "ZHICHAO_VIDEO_S3_READ_TIMEOUT_SECONDS": "60",
            "ZHICHAO_VIDEO_S3_RETRIES": "0",
        }
        running = video_of(COUNTY, settings=settings)
        yield running
        running.stop()


@pytest.fixture
def clip(county: RunningVideo, tmp_path: Path) -> tuple[pb.EvidenceDraft, Path]:
    """Write a clip of some parts; return it as it is described."""
    path, content = tmp_path / "clip.mp4", large_clip()
    path.write_bytes(content)
    return clip_draft(county, content), path


def upload(county: RunningVideo, clip: tuple[pb.EvidenceDraft, Path], trouble: Trouble) -> tuple[bool, int]:
    """Upload it; return whether it is the one, and how often it was paused."""
    draft, path = clip
    held, _ = upload_direct(county.stub, draft, path, None, lambda done: None, Retries(trouble.pause))
    return held.evidence.digest == draft.digest, trouble.pauses


@pytest.mark.parametrize(
    ("method", "place", "answer"),
    [
        pytest.param("POST", "uploadId", (503, b""), id="the store is away at the end"),
        pytest.param("", "uploads", (503, b""), id="the platform's store is away at first"),
        pytest.param("PUT", "partNumber=2", (200, b""), id="the store has lost a part"),
        pytest.param("PUT", "partNumber=2", (503, b""), id="the store does not take a part"),
    ],
)
def test_what_a_store_does_not_do_is_done_again(
    county: RunningVideo,
    clip: tuple[pb.EvidenceDraft, Path],
    trouble: Trouble,
    method: str,
    place: str,
    answer: tuple[int, bytes],
) -> None:
    trouble.answer = lambda asked, path: answer if asked.startswith(method) and place in path else None

    assert upload(county, clip, trouble) == (True, 1)


def test_an_upload_that_another_call_completes_is_waited_for(
    county: RunningVideo, clip: tuple[pb.EvidenceDraft, Path], trouble: Trouble
) -> None:
    draft, path = clip
    is_read_back, goes_on = Event(), Event()

    def answer(method: str, asked: str) -> tuple[int, bytes] | None:
        if method == "GET" and "/uploads/" in asked and "uploadId" not in asked:
            is_read_back.set()
            goes_on.wait(20.0)
        return None

    with ThreadPoolExecutor(1) as pool:
        put_all(prepare(county, draft).parts, path.read_bytes())
        trouble.answer = answer
        other = pool.submit(complete, county, draft)

        def let_it_finish() -> None:
            goes_on.set()
            other.result()

        trouble.on_pause = let_it_finish
        assert is_read_back.wait(20.0)
        assert upload(county, clip, trouble) == (True, 1)


def test_what_does_not_come_further_breaks_off(
    county: RunningVideo, clip: tuple[pb.EvidenceDraft, Path], trouble: Trouble
) -> None:
    trouble.answer = lambda method, path: (503, b"") if method == "PUT" else None
    pauses: list[float] = []
    with pytest.raises(BrokenOffError, match="HTTP 503"):
        upload_direct(county.stub, clip[0], clip[1], None, lambda done: None, Retries(pauses.append))
    assert len(pauses) == evidence_transfer.ATTEMPTS_MAX - 1


def test_a_refusal_is_told_at_once(county: RunningVideo, clip: tuple[pb.EvidenceDraft, Path], trouble: Trouble) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        upload_direct(county.terminal(OTHER_UNIT), clip[0], clip[1], None, lambda done: None, Retries(trouble.pause))
    assert (service_error(refused.value).reason, trouble.pauses) == (Reason.OUTSIDE_SCOPE, 0)


def test_the_exit_status_says_that_it_can_be_run_again(
    county: RunningVideo,
    clip: tuple[pb.EvidenceDraft, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trouble: Trouble,
) -> None:
    monkeypatch.setattr(evidence_transfer, "ATTEMPTS_MAX", 1)
    trouble.answer = lambda method, path: (503, b"") if method == "POST" and "uploadId" in path else None
    token_file = tmp_path / "person.token"
    token_file.write_text(county.access.person(Role.DATA_STEWARD, name="li"))
    taken = county.clock.now().isoformat()
    command = ["evidence", "upload", str(clip[1]), "--direct", "--unit", UNIT, "--taken", taken]

    result = CliRunner().invoke(main, [*command, "--video", county.address, "--token-file", str(token_file)])

    assert (result.exit_code, "OBJECT_STORE_UNAVAILABLE" in result.output) == (EXIT_BROKEN_OFF, True)
