"""`zhichao evidence upload`, `play`, `download` and `fetch`: the bytes of evidence."""

import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.directive_options import LocalTime
from cli.evidence_options import KINDS, NAME, PURPOSE, VIEWS
from cli.evidence_reach import CALL_SECONDS_MAX, reaching, video_service
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.video.v1 import evidence_pb2
    from zhichao.video.v1 import service_pb2 as pb
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

FETCH_POLL_SECONDS: Final = 1.0

_CONTENT_TYPES: Final = {
    ".jpg": ("image/jpeg", "photo"),
    ".jpeg": ("image/jpeg", "photo"),
    ".png": ("image/png", "photo"),
    ".mp4": ("video/mp4", "clip"),
    ".pdf": ("application/pdf", "document"),
}
"""What a name says; the platform looks into the bytes."""

_NOT_OF_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_LINK: Final = re.compile(r"https?://[!-~]+")


@click.command("upload")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--unit", "source_unit_id", required=True, metavar="ID", help="Source unit. 源头单位。")
@click.option(
    "--id", "evidence_id", default="", metavar="ID", help="Its id, unique in the unit; made of the digest. 证据编号。"
)
@click.option("--kind", type=click.Choice(list(KINDS)), help="Kind; by the file's name unless given. 类型。")
@click.option("--record", "records", multiple=True, metavar="ID", help="Weighing that it proves. 证明的称重记录。")
@click.option(
    "--acceptance", "acceptances", multiple=True, metavar="ID", help="Acceptance that it proves. 证明的验收。"
)
@click.option("--taken", type=LocalTime(), help="When it was taken, or begins; of photos and clips. 拍摄或开始时间。")
@click.option("--until", type=LocalTime(), help="When a clip ends; by its length unless given. 视频结束时间。")
@click.option("--view", type=click.Choice(list(VIEWS)), help="Where the camera looks. 视角。")
@click.option("--camera", "camera_id", default="", metavar="ID", help="Camera. 相机编号。")
@click.option(
    "--retention-class", default="", metavar="CLASS", help="Retention class, if not that of its kind. 保存类别。"
)
@click.option(
    "--direct",
    is_flag=True,
    help="Put it straight into the evidence store, in parts; for files of gigabytes. 直接分片上传至对象存储。",
)
@click.option(
    "--store-ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With --direct: the authority of the store's certificate. 对象存储的 CA 证书。",
)
@reaching
def upload(
    path: Path,
    source_unit_id: str,
    evidence_id: str,
    kind: str | None,
    records: tuple[str, ...],
    acceptances: tuple[str, ...],
    taken: datetime | None,
    until: datetime | None,
    view: str | None,
    camera_id: str,
    retention_class: str,
    direct: bool,
    store_ca: Path | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Upload a FILE and have it sealed. Repeated with the same file it is sealed once.

    上传文件并封存; 中断后重新执行即可续传, 同一文件只封存一次。

    Exit status: 0 sealed; 1 refused; 2 wrong options; 3 broke off, run it again. 退出码: 0 已封存; 1 被拒绝; 3 中断。
    """
    from cli.evidence_display import as_document, evidence_facts
    from cli.evidence_transfer import chunks_of, digest_of, ended_well, shown_bytes
    from cli.evidence_transfer import upload as upload_
    from cli.evidence_upload_direct import upload_direct
    from cli.terminal import Console
    from zhichao.video.v1 import evidence_pb2
    from zhichao.video.v1 import service_pb2 as pb

    content_type, usual_kind = _CONTENT_TYPES.get(path.suffix.lower(), ("", ""))
    if not content_type:
        raise click.UsageError(f"{path}: takes .jpg, .png, .mp4 and .pdf 仅支持 jpg、png、mp4、pdf")
    kind = kind or usual_kind
    if taken is None and kind != "document":
        raise click.UsageError("say when it was taken with --taken 照片与视频须用 --taken 指定拍摄时间")
    if kind == "clip" and until is None and taken is not None:
        until = taken + _length(path)
    with ended_well("upload"):
        size = path.stat().st_size
        with shown_bytes("digest 计算摘要", size) as progress:
            digest, size = digest_of(path, progress)
        draft = pb.EvidenceDraft(
            source_unit_id=source_unit_id,
            evidence_id=evidence_id or f"sha256-{digest.hex()[:32]}",
            kind=evidence_pb2.EvidenceKind.Value(f"EVIDENCE_KIND_{kind.upper()}"),
            digest=digest,
            size_bytes=size,
            content_type=content_type,
            view=evidence_pb2.CameraView.Value(f"CAMERA_VIEW_{(view or 'unspecified').upper().replace('-', '_')}"),
            camera_id=camera_id,
            subjects=[
                *(evidence_pb2.Subject(record_id=one) for one in records),
                *(evidence_pb2.Subject(acceptance_id=one) for one in acceptances),
            ],
            retention_class=retention_class,
        )
        if taken is not None:
            draft.capture_start_time.FromDatetime(taken)
        if until is not None:
            draft.capture_end_time.FromDatetime(until)
        with video_service(reach) as stub, shown_bytes("uploading 上传", size) as progress:
            if direct:
                held, is_duplicate = upload_direct(stub, draft, path, store_ca, progress)
            else:
                answer = upload_(stub, draft, chunks_of(path), progress)
                held, is_duplicate = answer.held_evidence, answer.is_duplicate
    if as_json:
        click.echo(json.dumps({**as_document(held), "is_duplicate": is_duplicate}, ensure_ascii=False))
        return
    if is_duplicate:
        click.echo("sealed before 此前已封存")
    Console().print(evidence_facts(held))


@click.command("download")
@NAME
@click.option(
    "--out", "path", type=click.Path(path_type=Path), help="File or directory; ID with its ending here. 文件。"
)
@PURPOSE
@reaching
def download(name: "evidence_pb2.EvidenceName", path: Path | None, purpose: str, reach: Reach, as_json: bool) -> None:
    """Download the bytes of evidence; they are compared with the digest that was sealed.

    下载证据原始字节并核对封存摘要; 中断后重新执行即可续传。

    Exit status: 0 there; 1 refused, or not what was sealed; 2 wrong options; 3 broke off, run it again.
    退出码: 0 完成; 1 被拒绝或内容不符; 2 参数错误; 3 中断。
    """
    from cli.evidence_transfer import download_file, ended_well, shown_bytes
    from zhichao.video.v1 import service_pb2 as pb

    with ended_well("download"), video_service(reach) as stub:
        held = stub.GetEvidence(pb.GetEvidenceRequest(name=name), timeout=CALL_SECONDS_MAX).held_evidence
        target = _target(path, held)
        with shown_bytes("downloading 下载", held.evidence.size_bytes) as progress:
            download_file(stub, held, target, purpose, progress=progress)
    document = {"file": str(target), "size_bytes": held.evidence.size_bytes, "sha256": held.evidence.digest.hex()}
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        click.echo(f"{target}  {held.evidence.size_bytes:,} bytes, SHA-256 {held.evidence.digest.hex()}")


@click.command("play")
@NAME
@PURPOSE
@click.option(
    "--seconds",
    type=click.IntRange(1, 3_600),
    default=300,
    show_default=True,
    help="How long the link is good. 链接有效秒数。",
)
@click.option("--open", "opens", is_flag=True, help="Open it with a player of this machine. 用本机播放器打开。")
@click.option(
    "--save",
    "path",
    type=click.Path(path_type=Path),
    help="Write it to a file or directory instead of making a link. 保存为文件。",
)
@click.option("--here", is_flag=True, help="Draw a frame in the terminal. 在终端中显示一帧画面。")
@reaching
def play(
    name: "evidence_pb2.EvidenceName",
    purpose: str,
    seconds: int,
    opens: bool,
    path: Path | None,
    here: bool,
    reach: Reach,
    as_json: bool,
) -> None:
    """Print a link by which evidence plays for some minutes without a token; or save, open or draw it.

    生成短期播放链接, 也可保存、打开或在终端显示一帧。

    Whoever has the link can play the evidence until it ends. A platform that gives no links saves the file instead.
    """
    from cli import evidence_player
    from cli.evidence_transfer import ended_well
    from zhichao.video.v1 import service_pb2 as pb

    shown: dict[str, Any] = {}
    with ended_well("play"), video_service(reach) as stub:
        held = stub.GetEvidence(pb.GetEvidenceRequest(name=name), timeout=CALL_SECONDS_MAX).held_evidence
        if here:
            evidence_player.draw(stub, held, purpose)
            return
        if path is None:
            shown = _link(stub, name, purpose, seconds)
        if not shown:
            shown = {"file": str(_saved(stub, held, path, purpose).absolute())}
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        for word, value in shown.items():
            click.echo(value if word != "expire_time" else f"until 有效至 {value}")
    if opens:
        told = evidence_player.open_with_player(str(shown.get("url") or shown["file"]))
        click.echo(told, err=True)


@click.command("fetch")
@NAME
@PURPOSE
@click.option("--deadline", type=LocalTime(), help="Until when it is wanted; a week unless given. 调取期限。")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for it to come. 等待秒数。",
)
@reaching
def fetch(
    name: "evidence_pb2.EvidenceName",
    purpose: str,
    deadline: datetime | None,
    wait_seconds: float,
    reach: Reach,
    as_json: bool,
) -> None:
    """Ask the platforms below for bytes that only they hold. They come by themselves.

    向下级平台调取本级没有的原始字节, 到达后即可播放。

    Exit status: 0 asked for, or here already; with --wait only when it is here; 3 when it has not come in that time.
    退出码: 0 已调取或已在库; 使用 --wait 时仅在到达后为 0, 超时为 3。
    """
    from cli.evidence_display import as_document, evidence_facts
    from cli.evidence_transfer import EXIT_BROKEN_OFF, ended_well
    from cli.terminal import Console
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.FetchEvidenceRequest(name=name, purpose=purpose)
    if deadline is not None:
        request.deadline_time.FromDatetime(deadline)
    with ended_well("fetch"), video_service(reach) as stub:
        answer = stub.FetchEvidence(request, timeout=CALL_SECONDS_MAX)
        held = answer.held_evidence
        if wait_seconds:
            held = _wait_for(stub, name, held, wait_seconds)
    if as_json:
        click.echo(json.dumps({**as_document(held), "request_id": answer.request_id}, ensure_ascii=False))
    else:
        if answer.request_id:
            Console().print(f"asked for 已调取: {answer.request_id}", highlight=False)
        Console().print(evidence_facts(held))
    if wait_seconds and held.bytes_state != pb.BYTES_STATE_HELD:
        click.echo("it has not come yet; it comes by itself 尚未到达, 将自动到达", err=True)
        raise click.exceptions.Exit(EXIT_BROKEN_OFF)


def _wait_for(
    stub: "VideoServiceStub", name: "evidence_pb2.EvidenceName", held: "pb.HeldEvidence", seconds: float
) -> "pb.HeldEvidence":
    from cli.evidence_transfer import shown_bytes
    from zhichao.video.v1 import service_pb2 as pb

    until = time.monotonic() + seconds
    with shown_bytes("coming 调取中", held.evidence.size_bytes) as progress:
        while held.bytes_state != pb.BYTES_STATE_HELD and time.monotonic() < until:
            time.sleep(min(FETCH_POLL_SECONDS, max(0.0, until - time.monotonic())))
            held = stub.GetEvidence(pb.GetEvidenceRequest(name=name), timeout=CALL_SECONDS_MAX).held_evidence
            progress(held.received_bytes)
    return held


def _link(stub: "VideoServiceStub", name: "evidence_pb2.EvidenceName", purpose: str, seconds: int) -> dict[str, Any]:
    """Return a link and when it ends; nothing where the platform gives none."""
    import grpc

    from cli.directive_display import local_time
    from services.common.reasons import Reason
    from services.common.rpc_client import service_error
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.GetPlaybackUrlRequest(name=name, seconds=seconds, purpose=purpose)
    try:
        answer = stub.GetPlaybackUrl(request, timeout=CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        if service_error(error).reason is not Reason.NOT_CONFIGURED:
            raise
        return {}
    if not _LINK.fullmatch(answer.url):
        raise click.ClickException("the platform gave no link that can be opened 平台返回的链接无效")
    return {"url": answer.url, "expire_time": local_time(answer, "expire_time")}


def _saved(stub: "VideoServiceStub", held: "pb.HeldEvidence", path: Path | None, purpose: str) -> Path:
    from cli.evidence_transfer import download_file, shown_bytes

    target = _target(path, held)
    with shown_bytes("saving 保存", held.evidence.size_bytes) as progress:
        download_file(stub, held, target, purpose, is_download=path is not None, progress=progress)
    return target


def _target(path: Path | None, held: "pb.HeldEvidence") -> Path:
    """Return the file to write; what an id is made of names a file here and nothing else."""
    ending = next((one for one, (kind, _) in _CONTENT_TYPES.items() if kind == held.evidence.content_type), ".bin")
    name = _NOT_OF_NAMES.sub("_", held.evidence.evidence_id).lstrip(".-") + ending
    if path is None:
        return Path(name)
    return path / name if path.is_dir() else path


def _length(path: Path) -> timedelta:
    """Return how long a clip is. Raises click.UsageError when it cannot be read."""
    import av

    try:
        with av.open(str(path), "r") as container:
            if container.duration:
                return timedelta(seconds=container.duration / av.time_base)
    except (av.FFmpegError, OSError):
        pass
    raise click.UsageError(
        f"{path}: its length cannot be read: say when it ends with --until 请用 --until 指定结束时间"
    )
