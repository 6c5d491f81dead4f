"""Shows evidence on this machine: with an installed player, or a frame of it as characters in the terminal."""

import io
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from zhichao.video.v1 import service_pb2 as pb
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

PLAYERS: Final = ("xdg-open", "open", "mpv", "vlc", "ffplay")
"""The desktop's own choice first, then players that are called by their name."""

_DESKTOP_ONLY: Final = frozenset({"xdg-open", "open"})

_UPPER_HALF: Final = "\u2580"

_PICTURE_PIXELS_MAX: Final = 4_000_000
"""A poster has at most 1,280 × 720 pixels; more is not one of ours."""


def open_with_player(place: str) -> str:
    """Open a link or a file with a player of this machine; return what to tell."""
    has_desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or os.uname().sysname == "Darwin"
    for player in PLAYERS:
        program = shutil.which(player)
        if program is None or (player in _DESKTOP_ONLY and not has_desktop):
            continue
        # The link comes from the platform: it is an argument of its own and begins with http or a path.
        subprocess.Popen(  # noqa: S603 - a program found on the path, and one argument
            [program, place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return f"opened with 已打开: {player}"
    return f"no player here ({', '.join(PLAYERS)}): open the link elsewhere, or see --here 本机无播放器"


def draw(stub: "VideoServiceStub", held: "pb.HeldEvidence", purpose: str) -> None:
    """Draw a frame, as large as the terminal, two pixels to a character. Raises click.ClickException, grpc.RpcError."""
    from PIL import Image, UnidentifiedImageError
    from rich.color import Color
    from rich.segment import Segment, Segments
    from rich.style import Style

    from cli.evidence_transfer import read_bytes
    from cli.terminal import Console
    from zhichao.video.v1 import evidence_pb2
    from zhichao.video.v1 import service_pb2 as pb

    console = Console()
    if not console.is_terminal:
        raise click.UsageError("--here draws in a terminal; write it to a file with --save --here 仅用于终端")
    if not held.has_preview:
        raise click.ClickException("there is no picture of it 没有可显示的画面")
    is_clip = held.evidence.kind == evidence_pb2.EVIDENCE_KIND_CLIP
    rendition = pb.EVIDENCE_RENDITION_POSTER if is_clip else pb.EVIDENCE_RENDITION_THUMBNAIL
    content = b"".join(read_bytes(stub, held, purpose, rendition=rendition))
    width = console.width
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            if picture.width * picture.height > _PICTURE_PIXELS_MAX:
                raise click.ClickException("its picture is larger than pictures are 画面过大")
            height = max(2, picture.height * width // picture.width // 2 * 2)
            pixels = picture.convert("RGB").resize((width, height)).tobytes()
    except (UnidentifiedImageError, OSError) as error:
        raise click.ClickException("its picture cannot be read 画面无法读取") from error

    def color(x: int, y: int) -> Color:
        place = (y * width + x) * 3
        return Color.from_rgb(*pixels[place : place + 3])

    for y in range(0, height, 2):
        cells = [Segment(_UPPER_HALF, Style(color=color(x, y), bgcolor=color(x, y + 1))) for x in range(width)]
        console.print(Segments([*cells, Segment.line()]), end="")
