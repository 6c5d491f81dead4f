"""What bytes begin and end with says what they are, whatever they are called."""

import io
import random
import struct
import zipfile

import pytest

from services.video.media_types import JPEG, MP4, PDF, PNG
from services.video.recognition import HEAD_BYTES, TAIL_BYTES, has_zip_archive, recognise


def box(brand: bytes, *compatible: bytes) -> bytes:
    return struct.pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", brand, 0) + b"".join(compatible) + bytes(100)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", JPEG),
        (b"\x89PNG\r\n\x1a\n", PNG),
        (b"%PDF-1.7\n", PDF),
        (box(b"isom", b"iso2", b"avc1", b"mp41"), MP4),
        (box(b"mp42"), MP4),
        (box(b"qt  ", b"mp42"), MP4),
        (box(b"qt  "), "video/quicktime"),
        (box(b"heic", b"mif1", b"iso8"), "image/heif"),
        (box(b"avif", b"mif1"), "image/heif"),
        (box(b"M4A ", b"M4A "), "application/mp4"),
        (b"MZ\x90\x00" + bytes(100), "executable"),
        (b"\x7fELF\x02\x01\x01", "executable"),
        (b"\xcf\xfa\xed\xfe", "executable"),
        (b"#!/bin/sh\n", "script"),
        (b"@echo off\r\n", "script"),
        (b"PK\x03\x04\x14\x00", "application/zip"),
        (b"Rar!\x1a\x07\x01\x00", "archive"),
        (b"7z\xbc\xaf\x27\x1c", "archive"),
        (b"\x1f\x8b\x08", "archive"),
        (bytes(257) + b"ustar\x0000" + bytes(200), "archive"),
        (b"<!DOCTYPE html><html>", "text/html"),
        (b"\xef\xbb\xbf\n  <HTML><body>", "text/html"),
        (b"hello <script>alert(1)</script>", "text/html"),
        (b"<?xml version='1.0'?><svg/>", "text/xml"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        (b"GIF89a", "image/gif"),
        (b"BM\x36\x00", "image/bmp"),
        (b"II*\x00", "image/tiff"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video/x-msvideo"),
        (b"\x1a\x45\xdf\xa3", "video/x-matroska"),
        (b"FLV\x01\x05", "video/x-flv"),
        (b"\x00\x00\x01\xba\x44", "video/mp2p"),
        ((b"\x47" + bytes(187)) * 3, "video/mp2t"),
        (b"\x00\x00\x00\x01\x67\x42", "video/h264"),
        (b"IMKH\x01\x02", "video/x-recorder"),
        (b"DHAV\xfc\x00", "video/x-recorder"),
        (b"plate,gross\n1,49000\n", "text/plain"),
        ("车牌,总重\n".encode() * 3, "text/plain"),
        ("车牌,总重\n".encode("gb18030") * 3, "text/plain"),
    ],
)
def test_recognises_what_is_sent_to_platforms(head: bytes, found: str) -> None:
    recognised = recognise(head[:HEAD_BYTES])
    assert recognised is not None
    assert recognised.found == found


@pytest.mark.parametrize("head", [b"", b"\x00", b"\xff", bytes(HEAD_BYTES), bytes(range(256))])
def test_what_nobody_has_met_is_not_guessed(head: bytes) -> None:
    assert recognise(head) is None


@pytest.mark.parametrize("seed", range(3))
def test_takes_any_bytes(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(2000):
        head = source.randbytes(source.choice((0, 3, 8, 12, 20, HEAD_BYTES)))
        recognise(head)
        recognise(head[:4] + b"ftyp" + head[8:])


def archive(comment: bytes = b"", files: int = 1) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for at in range(files):
            written.writestr(f"{at}.exe", "MZ")
        written.comment = comment
    return content.getvalue()


@pytest.mark.parametrize("behind", [b"", b"\n%%EOF\n", bytes(1000)])
@pytest.mark.parametrize("comment", [b"", b"x" * 65_535, b"PK\x05\x06" * 100])
def test_an_archive_behind_other_bytes_is_found(behind: bytes, comment: bytes) -> None:
    if len(comment) + len(behind) > TAIL_BYTES - 22:
        behind = b""
    whole = random.Random(1).randbytes(100_000) + archive(comment) + behind
    assert has_zip_archive(whole[-TAIL_BYTES:], len(whole))


def test_an_archive_whose_directory_is_out_of_sight_is_found() -> None:
    whole = b"%PDF-1.7\n" + archive(files=3000)
    assert has_zip_archive(whole[-TAIL_BYTES:], len(whole))


def test_an_empty_archive_is_found() -> None:
    whole = b"%PDF-1.7\n" + archive(files=0)
    assert has_zip_archive(whole[-TAIL_BYTES:], len(whole))


@pytest.mark.parametrize("seed", range(3))
def test_bytes_that_only_look_like_the_end_of_an_archive_are_none(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(200):
        tail = b"PK\x05\x06" + source.randbytes(18) + source.randbytes(300)
        assert not has_zip_archive(source.randbytes(500) + tail, 1_000_000)


@pytest.mark.parametrize("tail", [b"", b"PK\x05\x06", b"PK\x05\x06" + bytes(17)])
def test_an_end_that_is_too_short_is_none(tail: bytes) -> None:
    assert not has_zip_archive(tail, len(tail))
