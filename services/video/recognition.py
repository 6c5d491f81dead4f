"""Recognises what bytes are by what they begin and end with. Names and claims do not count; standard library only."""

import codecs
import re
import struct
from dataclasses import dataclass
from typing import Final

from services.video.media_types import JPEG, MP4, PDF, PNG

HEAD_BYTES: Final = 512
"""What is looked at of the beginning: the header of a tar archive is the longest."""

TAIL_BYTES: Final = 22 + 65_535
"""What is looked at of the end: the end record of a zip archive and the longest comment behind it (APPNOTE 4.3.16)."""

_TEXT_SHARE_MIN: Final = 0.95
"""Share of printable bytes from which a head is called text."""

_MP4_BRANDS: Final = frozenset(
    b"isom iso2 iso3 iso4 iso5 iso6 iso7 iso8 iso9 mp41 mp42 avc1 hvc1 hev1 dash cmfc msdh MSNV XAVC".split()
)
"""Brands of ISO/IEC 14496-12 and -14 files, as recorders and phones write them."""

_PICTURE_BRANDS: Final = frozenset((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"))
"""Major brands of pictures and picture sequences in the same boxes (ISO/IEC 23008-12)."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What bytes were recognised as: a media type or word, and a name of it for people, with its article."""

    found: str
    name: str
    name_zh: str


_TAKEN: Final = {
    JPEG: Recognised(JPEG, "a JPEG picture", "JPEG 图片"),
    PNG: Recognised(PNG, "a PNG picture", "PNG 图片"),
    MP4: Recognised(MP4, "an MP4 file", "MP4 文件"),
    PDF: Recognised(PDF, "a PDF document", "PDF 文档"),
}

_WINDOWS: Final = Recognised("executable", "a Windows program", "Windows 可执行程序")
_PROGRAM: Final = Recognised("executable", "a program", "可执行程序")
_SCRIPT: Final = Recognised("script", "a script", "脚本程序")
_ZIP: Final = Recognised("application/zip", "a zip archive or an office document", "ZIP 压缩包或办公文档")
_ARCHIVE: Final = Recognised("archive", "an archive", "压缩包")
_HTML: Final = Recognised("text/html", "a web page", "网页")
_XML: Final = Recognised("text/xml", "an XML or SVG file", "XML 或 SVG 文件")
_OFFICE: Final = Recognised("application/x-ole-storage", "an old office document or installer", "旧版办公文档或安装包")
_TIFF: Final = Recognised("image/tiff", "a TIFF picture", "TIFF 图片")
_STREAM: Final = Recognised("video/mp2p", "an MPEG program stream", "MPEG-PS 码流")
_PRIVATE: Final = Recognised("video/x-recorder", "a recording in a maker's own format", "厂商私有格式录像")
_RAW: Final = Recognised("video/h264", "a bare video stream", "裸视频码流")
_MOVIE: Final = Recognised("video/quicktime", "a QuickTime movie", "QuickTime 影片")
_BOXES: Final = Recognised("application/mp4", "a file of the MP4 family that is no MP4 video", "非 MP4 视频的同类文件")

_BEGINNINGS: Final = (
    (b"\xff\xd8\xff", _TAKEN[JPEG]),
    (b"\x89PNG\r\n\x1a\n", _TAKEN[PNG]),
    (b"%PDF-", _TAKEN[PDF]),
    (b"MZ", _WINDOWS),
    (b"\x7fELF", _PROGRAM),
    (b"\xcf\xfa\xed\xfe", _PROGRAM),
    (b"\xce\xfa\xed\xfe", _PROGRAM),
    (b"\xca\xfe\xba\xbe", _PROGRAM),
    (b"\x00asm", _PROGRAM),
    (b"L\x00\x00\x00\x01\x14\x02\x00", _WINDOWS),
    (b"#!", _SCRIPT),
    (b"@echo", _SCRIPT),
    (b"<?php", _SCRIPT),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", _ZIP),
    (b"PK\x07\x08", _ZIP),
    (b"Rar!\x1a\x07", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"\x1f\x8b", _ARCHIVE),
    (b"BZh", _ARCHIVE),
    (b"\xfd7zXZ\x00", _ARCHIVE),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE),
    (b"MSCF", _ARCHIVE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE),
    (b"GIF8", Recognised("image/gif", "a GIF picture", "GIF 图片")),
    (b"BM", Recognised("image/bmp", "a BMP picture", "BMP 图片")),
    (b"II*\x00", _TIFF),
    (b"MM\x00*", _TIFF),
    (b"\x1a\x45\xdf\xa3", Recognised("video/x-matroska", "a Matroska or WebM file", "Matroska 或 WebM 文件")),
    (b"FLV\x01", Recognised("video/x-flv", "an FLV video", "FLV 视频")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Recognised("video/x-ms-asf", "a Windows Media file", "Windows Media 文件")),
    (b"OggS", Recognised("application/ogg", "an Ogg file", "Ogg 文件")),
    (b"ID3", Recognised("audio/mpeg", "a sound", "音频文件")),
    (b"\x00\x00\x01\xba", _STREAM),
    (b"IMKH", _PRIVATE),
    (b"DHAV", _PRIVATE),
    (b"\x00\x00\x00\x01", _RAW),
    (b"\x00\x00\x01", _RAW),
)

_RIFF: Final = {
    b"WEBP": Recognised("image/webp", "a WebP picture", "WebP 图片"),
    b"AVI ": Recognised("video/x-msvideo", "an AVI video", "AVI 视频"),
    b"WAVE": Recognised("audio/wav", "a sound", "音频文件"),
}

_MARKUP: Final = re.compile(rb"<(!doctype html|html|head|body|script|iframe|meta|title)\b", re.IGNORECASE)


def recognise(head: bytes) -> Recognised | None:
    """Tell what bytes are by their first HEAD_BYTES; None for what nobody here has met."""
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    for beginning, recognised in _BEGINNINGS:
        if head.startswith(beginning):
            return recognised
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[257:262] == b"ustar":
        return _ARCHIVE
    if head[:1] == head[188:189] == head[376:377] == b"\x47":
        return Recognised("video/mp2t", "an MPEG transport stream", "MPEG-TS 码流")
    return _of_text(head)


def _of_brands(head: bytes) -> Recognised:
    length = struct.unpack(">I", head[:4])[0]
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)) - 3, 4))]
    if brands[0] in _PICTURE_BRANDS:
        return Recognised("image/heif", "a HEIF or AVIF picture", "HEIF 或 AVIF 图片")
    if _MP4_BRANDS.intersection(brands):
        return _TAKEN[MP4]
    return _MOVIE if brands[0] == b"qt  " else _BOXES


def _of_text(head: bytes) -> Recognised | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _MARKUP.search(text):
        return _HTML
    if text.startswith((b"<?xml", b"<svg")):
        return _XML
    printable = sum(byte in b"\t\r\n" or byte >= ord(" ") for byte in head)
    if b"\x00" not in head and printable >= _TEXT_SHARE_MIN * len(head) and _is_written(head):
        return Recognised("text/plain", "text", "文本文件")
    return None


def _is_written(head: bytes) -> bool:
    for encoding in ("utf-8", "gb18030"):
        try:
            # The last character may be cut.
            return bool(codecs.getincrementaldecoder(encoding)().decode(head))
        except UnicodeDecodeError:
            continue
    return False


def has_zip_archive(tail: bytes, size: int) -> bool:
    """Tell whether bytes of this size, of which these are the last TAIL_BYTES, can be opened as a zip archive.

    Archives are read from their end, so a picture or a document may be one besides; a program may hide in it.
    """
    start = size - len(tail)
    place = tail.rfind(b"PK\x05\x06")
    while place >= 0:
        record = tail[place : place + 22]
        if len(record) == 22:
            directory_bytes = struct.unpack("<I", record[12:16])[0]
            directory = place - directory_bytes
            # One that is out of sight has so many files that its size alone is a chance of one in a million.
            is_seen = directory >= 0
            if is_seen and tail[directory : directory + 4] in (b"PK\x01\x02", b"PK\x05\x06"):
                return True
            if not is_seen and record[4:8] == b"\0\0\0\0" and record[8:10] == record[10:12] and start + directory >= 0:
                return True
        place = tail.rfind(b"PK\x05\x06", 0, place)
    return False
