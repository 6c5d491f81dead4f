"""`zhichao evidence` against a real video service with a real store."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import evidence_transfer
from cli.main import main
from services.common.access.permissions import Role
from services.common.errors import ServiceError
from tests.video.conftest import county, county_registry, day, evidence_store, video_of
from tests.video.harness import COUNTY, UNIT, RunningVideo
from tests.video.media_files import photo
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

__all__ = ["county", "county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.


class Shell:
    """The command line of somebody who may upload, and of an officer."""

    def __init__(self, service: RunningVideo, directory: Path) -> None:
        self.service = service
        self.directory = directory
        token_file = directory / "person.token"
        token_file.write_text(service.access.person(Role.OFFICER, Role.DATA_STEWARD, name="li"))
        self._options = ["--video", service.address, "--token-file", str(token_file)]

    def run(self, *arguments: object, **environment: str) -> Result:
        return CliRunner().invoke(
            main,
            ["evidence", *map(str, arguments), *self._options],
            # Wide enough that no table folds.
            env={"COLUMNS": "250"} | environment,
        )

    def done(self, *arguments: object, **environment: str) -> str:
        result = self.run(*arguments, **environment)
        assert result.exit_code == 0, result.output
        return result.output

    def document(self, *arguments: object) -> Any:
        # Log lines of the service, which runs in this process, stand before it.
        return json.loads(self.done(*arguments, "--json").splitlines()[-1])

    def refused(self, *arguments: object, exit_code: int = 1) -> str:
        result = self.run(*arguments)
        assert result.exit_code == exit_code, result.output
        return result.output

    def taken(self) -> str:
        return (self.service.clock.now() - timedelta(minutes=1)).isoformat()

    def photo(self, name: str = "photo.jpg") -> tuple[Path, str]:
        """Write a photo; return it with its digest."""
        content = photo()
        path = self.directory / name
        path.write_bytes(content)
        return path, hashlib.sha256(content).hexdigest()

    def uploaded(self, *options: str, name: str = "photo.jpg") -> tuple[str, str]:
        """Upload a photo; return the name of the evidence, and its digest."""
        path, digest = self.photo(name)
        document = self.document("upload", path, "--unit", UNIT, "--taken", self.taken(), *options)
        assert document["evidence"]["digest"] == digest
        return document["name"], digest


@pytest.fixture
def shell(county: RunningVideo, tmp_path: Path) -> Shell:
    return Shell(county, tmp_path)


def test_a_photo_from_upload_to_download(shell: Shell, tmp_path: Path) -> None:
    path, digest = shell.photo()
    taken = shell.taken()
    options = ("--unit", UNIT, "--taken", taken, "--record", "R-7", "--view", "weigh-room", "--camera", "C1")
    first = shell.done("upload", path, *options)
    again = shell.document("upload", path, *options)
    shown = shell.document("show", f"{UNIT}/sha256-{digest[:32]}")
    listed = shell.document("list", "--weighing", f"{UNIT}/R-7")["evidence"]
    downloaded = shell.document("download", again["name"], "--purpose", "留存", "--out", tmp_path / "copy.jpg")

    for words in (digest, "weigh-room 磅房", "held 在库", "image/jpeg", "R-7"):
        assert words in first
    assert again["is_duplicate"]
    assert again["name"] == f"{COUNTY}/{UNIT}/sha256-{digest[:32]}"
    assert listed == [shown]
    assert (downloaded["file"], downloaded["sha256"]) == (str(tmp_path / "copy.jpg"), digest)
    assert (tmp_path / "copy.jpg").read_bytes() == path.read_bytes()
    assert (tmp_path / "copy.jpg").stat().st_mode & 0o777 == 0o600
    custody = shell.document("custody", again["name"])["custody"]
    assert [(one["event"]["action"], one["event"]["purpose"]) for one in custody] == [
        ("CUSTODY_ACTION_DOWNLOADED", "留存")
    ]


def test_what_an_upload_lacks_is_told_before_anything_is_sent(shell: Shell, tmp_path: Path) -> None:
    path, _ = shell.photo()
    (tmp_path / "x.exe").write_bytes(b"MZ")
    (tmp_path / "x.mp4").write_bytes(b"no clip")
    assert "--taken" in shell.refused("upload", path, "--unit", UNIT, exit_code=2)
    assert "takes .jpg" in shell.refused("upload", tmp_path / "x.exe", "--unit", UNIT, exit_code=2)
    clip = ("upload", tmp_path / "x.mp4", "--unit", UNIT, "--taken", shell.taken())
    assert "--until" in shell.refused(*clip, exit_code=2)


def test_what_a_file_is_not_is_refused(shell: Shell, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.jpg"
    renamed.write_bytes(b"MZ" + bytes(2_000))
    told = shell.refused("upload", renamed, "--unit", UNIT, "--taken", shell.taken())
    assert "CONTENT_REFUSED" in told


def test_a_clip_ends_where_its_length_says(shell: Shell, tmp_path: Path) -> None:
    from cli.simulate.media import make_clip
    from tests.cli.test_simulate_media import SCENE

    path = tmp_path / "clip.mp4"
    path.write_bytes(make_clip(SCENE).content)
    start = shell.service.clock.now() - timedelta(minutes=1)
    document = shell.document("upload", path, "--unit", UNIT, "--taken", start.isoformat())
    held = pb.HeldEvidence()
    held.evidence.capture_end_time.FromJsonString(document["evidence"]["capture_end_time"])
    assert held.evidence.capture_end_time.ToDatetime(start.tzinfo) - start == timedelta(seconds=10)
    assert document["evidence"]["media"]["video_codec"] == "h264"


def test_an_upload_goes_on_where_it_broke_off(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path, digest = shell.photo()
    size = path.stat().st_size
    options = ("upload", path, "--unit", UNIT, "--taken", shell.taken())
    monkeypatch.setattr(evidence_transfer, "CHUNK_BYTES", size // 10)
    messages_of = evidence_transfer.upload_messages
    offsets: list[int] = []

    def received() -> int:
        name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id=f"sha256-{digest[:32]}")
        try:
            return int(shell.service.call("GetUpload", pb.GetUploadRequest(name=name)).received_bytes)
        except ServiceError:
            return 0

    def cut(draft: pb.EvidenceDraft, chunks: Any, offset: int, progress: Any) -> Iterator[pb.UploadEvidenceRequest]:
        for count, message in enumerate(messages_of(draft, chunks, offset, progress)):
            if count == 6:
                wait_until(lambda: received() >= size // 10, "some of it has come")
                raise ConnectionError("somebody pulls the plug")
            yield message

    def counted(draft: pb.EvidenceDraft, chunks: Any, offset: int, progress: Any) -> Iterator[pb.UploadEvidenceRequest]:
        offsets.append(offset)
        return messages_of(draft, chunks, offset, progress)

    monkeypatch.setattr(evidence_transfer, "upload_messages", cut)
    assert shell.run(*options).exit_code != 0
    monkeypatch.setattr(evidence_transfer, "upload_messages", counted)
    assert shell.document(*options)["evidence"]["digest"] == digest
    # The service may see late that the call is over; then it says how far it had come.
    assert offsets[-1] in range(size // 10, size)


def test_a_download_goes_on_where_it_broke_off(shell: Shell, tmp_path: Path) -> None:
    name, digest = shell.uploaded()
    original = (tmp_path / "photo.jpg").read_bytes()
    target = tmp_path / "copy.jpg"
    partial = tmp_path / "copy.jpg.partial"
    partial.write_bytes(original[:1000])
    assert shell.document("download", name, "--purpose", "留存", "--out", target)["sha256"] == digest
    assert target.read_bytes() == original
    # What an earlier call left is not believed.
    target.unlink()
    partial.write_bytes(b"x" * 1000)
    assert "not that of the manifest" in shell.refused("download", name, "--purpose", "留存", "--out", target)
    assert not partial.exists()
    assert not target.exists()
    partial.write_bytes(b"x" * 10_000_000)
    assert shell.document("download", name, "--purpose", "留存", "--out", target)["sha256"] == digest


def test_playing_gives_a_link_and_is_written_down(shell: Shell, tmp_path: Path) -> None:
    import urllib.request

    name, digest = shell.uploaded()
    link = shell.document("play", name, "--purpose", "复核", "--seconds", "60")
    with urllib.request.urlopen(link["url"], timeout=20) as answer:  # noqa: S310 - the link of a test's own store
        assert hashlib.sha256(answer.read()).hexdigest() == digest
    saved = shell.document("play", name, "--purpose", "复核", "--save", tmp_path / "saved.jpg")
    assert hashlib.sha256(Path(saved["file"]).read_bytes()).hexdigest() == digest
    opened = shell.done("play", name, "--purpose", "复核", "--open", PATH=str(tmp_path))
    assert "no player here" in opened
    custody = shell.done("custody", name)
    for words in ("shared 分享", "downloaded 下载", "复核", "person/li"):
        assert words in custody


def test_a_picture_is_drawn_in_a_terminal_and_nowhere_else(shell: Shell) -> None:
    name, _ = shell.uploaded()
    # It is drawn beside everything else.
    wait_until(lambda: shell.document("show", name).get("has_preview"), "there is a thumbnail")
    assert "--here" in shell.refused("play", name, "--purpose", "复核", "--here", exit_code=2)
    drawn = shell.done("play", name, "--purpose", "复核", "--here", FORCE_COLOR="1", COLUMNS="40")
    lines = [line for line in drawn.splitlines() if "\u2580" in line]
    assert len(lines) > 5
    assert all(line.count("\u2580") == 40 for line in lines)


def test_holds_and_longer_retention(shell: Shell) -> None:
    name, _ = shell.uploaded()
    assert "case-7" in shell.done("hold", name, "--id", "case-7", "--purpose", "案件")
    assert [one["name"] for one in shell.document("list", "--on-hold")["evidence"]] == [name]
    assert "holds" not in shell.document("release", name, "--id", "case-7", "--purpose", "结案")
    until = "2039-01-01 00:00"
    assert "2039-01-01 00:00:00" in shell.done("extend", name, "--until", until, "--purpose", "诉讼")
    told = shell.refused("extend", name, "--until", "2031-01-01", "--purpose", "误操作")
    assert "RETENTION_SHORTENED" in told


def test_bytes_that_are_here_are_not_fetched(shell: Shell) -> None:
    name, _ = shell.uploaded()
    document = shell.document("fetch", name, "--purpose", "复核", "--wait", "5")
    assert (document["request_id"], document["bytes_state"]) == ("", "BYTES_STATE_HELD")


def test_lists_are_empty_where_nothing_is(shell: Shell) -> None:
    assert "no evidence 无证据" in shell.done("list")
    assert "no cameras" in shell.done("cameras", "--state", "blind")
    assert "no suspected" in shell.done("completeness", "--from", "2025-03-01", "--to", "2025-03-02")
    assert "nothing is missing" in shell.done("missing", "--lost")
    assert shell.document("list", "--kind", "clip", "--bytes", "below") == {"evidence": [], "has_more": False}


def test_lists_end_at_their_limit(shell: Shell) -> None:
    for number in range(3):
        shell.uploaded(name=f"{number}.jpg")
    document = shell.document("list", "--unit", UNIT, "--limit", "2")
    assert (len(document["evidence"]), document["has_more"]) == (2, True)
    assert "more than 2" in shell.done("list", "--limit", "2")


def test_names_are_told_how_to_be_written(shell: Shell) -> None:
    for wrong in ("x", "a/b/c", "/x", "x/", "141025/a/b/c"):
        assert "UNIT/ID" in shell.refused("show", wrong, exit_code=2), wrong
    assert "NOT_FOUND" in shell.refused("show", f"{UNIT}/nothing")
    assert "different source units" in shell.refused("list", "--unit", "a", "--weighing", "b/c", exit_code=2)
    assert "Missing option '--purpose'" in shell.refused("download", f"{UNIT}/x", exit_code=2)


def test_a_platform_that_is_away_is_told(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["evidence", "list", "--video", "127.0.0.1:1"])
    assert told.exit_code == 1
    assert "nothing listens there" in told.output
