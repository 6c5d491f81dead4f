"""Tells what uploaded bytes are, from the bytes alone: media type, facts, and whether they are sound.

Runs in a process of its own (`inspecting_process`), and loads the decoders: the service never imports this module.
"""

from typing import BinaryIO, Final

from services.video import inspection_clip, inspection_document, inspection_photo
from services.video.media_types import CONTENT_TYPES, JPEG, MP4, PDF, PNG, ContentRefused, Inspection
from services.video.recognition import HEAD_BYTES, TAIL_BYTES, has_zip_archive, recognise

_READERS: Final = {
    JPEG: inspection_photo.inspect_jpeg,
    PNG: inspection_photo.inspect_png,
    MP4: inspection_clip.inspect,
    PDF: inspection_document.inspect,
}


def load_libraries() -> None:
    """Load what decodes, so that the first file is not slower than others and no file is opened later."""
    inspection_photo.load_libraries()
    inspection_clip.load_libraries()
    inspection_document.load_libraries()


def too_large() -> ContentRefused:
    """Make the refusal of what needs more memory than there is for one file."""
    return ContentRefused("The file needs too much memory to be opened", "打开文件所需内存过大")


def inspect(file: BinaryIO, size: int, content_type: str) -> Inspection:
    """Tell what the bytes are and read their facts; `content_type` is what they are said to be.

    Raises ContentRefused for everything that is not a whole, readable JPEG, PNG, MP4 (H.264 or H.265) or PDF, for what
    is another of these than it is said to be, and for what can be opened as something else besides. What it costs is
    for the caller to bound.
    """
    if size <= 0:
        raise ContentRefused("The file is empty", "文件为空")
    head = _at(file, 0, HEAD_BYTES)
    recognised = recognise(head)
    found = recognised.found if recognised is not None else ""
    if recognised is None or found not in CONTENT_TYPES:
        name, name_zh = (recognised.name, recognised.name_zh) if recognised is not None else ("not known", "未知类型")
        raise ContentRefused(
            f"The file is {name}; taken are JPEG, PNG, MP4 (H.264 or H.265) and PDF",
            f"文件为{name_zh}；仅接收 JPEG、PNG、MP4（H.264 或 H.265）和 PDF",
            found=found,
        )
    if found != content_type:
        raise ContentRefused(
            f"The file is {recognised.name} ({found}), not what it is said to be",
            f"文件为{recognised.name_zh}（{found}），与声明的类型不符",
            found=found,
        )
    if has_zip_archive(_at(file, max(size - TAIL_BYTES, 0), TAIL_BYTES), size):
        raise ContentRefused(
            f"The file is {recognised.name} and a zip archive at once",
            f"文件既是{recognised.name_zh}，又是 ZIP 压缩包",
            found="application/zip",
        )
    file.seek(0)
    return Inspection(found, _READERS[found](file, size))


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
