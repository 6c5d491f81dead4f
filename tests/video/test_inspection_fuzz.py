"""Files that were damaged by chance or by design: each is read or refused, and never does more than that."""

import os
import random
import struct
import zlib
from collections.abc import Iterator

import pytest

from services.video.inspecting_process import InspectingProcesses
from services.video.media_types import CONTENT_TYPES, JPEG, MP4, PDF, PNG, ContentRefused, Inspection
from tests.video.media_files import REAL, clip, jpeg, pdf, png

ROUNDS = int(os.environ.get("ZHICHAO_FUZZ_FILES", "250"))
"""Files per kind; a nightly run may send a hundred times as many."""

SEED = int(os.environ.get("ZHICHAO_FUZZ_SEED", "20251120"))


def seeds_of(content_type: str) -> list[bytes]:
    """Return sound files of a kind: the real ones where they are, and small made ones."""
    made = {
        JPEG: [jpeg(taken="2025:11:20 08:30:00", orientation=6), jpeg(is_progressive=True)],
        PNG: [png(), png(64, 64, mode="P")],
        MP4: [clip(seconds=1), clip(seconds=1, is_fragmented=True), clip(64, 64, seconds=1, codec="libx265")],
        PDF: [pdf(3), pdf(1, password="")],
    }[content_type]
    names = {JPEG: ["photo_with_exif.jpg"], MP4: ["road_20s.mp4", "roadside_11s.mp4"]}.get(content_type, [])
    return made + [(REAL / name).read_bytes() for name in names if (REAL / name).exists()]


def mutated(source: random.Random, content: bytes) -> bytes:
    """Damage a file: in its head, where lengths and tables are, more often than elsewhere."""
    changed = bytearray(content)
    for _ in range(source.choice((1, 1, 2, 8, 64))):
        if not changed:
            return b""
        last = min(len(changed), source.choice((64, 4096, len(changed))))
        # Of clips, the tables may stand at the end.
        at = source.randrange(last) if source.random() < 0.7 else len(changed) - 1 - source.randrange(last)
        how = source.randrange(8)
        if how == 0:
            changed[at] ^= 1 << source.randrange(8)
        elif how == 1:
            changed[at] = source.randrange(256)
        elif how == 2:
            changed[at : at + 4] = struct.pack(">I", source.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, at)))
        elif how == 3:
            del changed[at : at + source.choice((1, 4, 100))]
        elif how == 4:
            changed[at:at] = source.randbytes(source.choice((1, 4, 100)))
        elif how == 5:
            changed[at:at] = changed[at : at + source.choice((8, 64, 512))]
        elif how == 6:
            changed[at : at + 16] = bytes(16)
        else:
            del changed[source.randrange(len(changed)) :]
    return bytes(changed)


def with_sums(content: bytes) -> bytes:
    """Set the check sums of a PNG right again, so that more than they is tried."""
    changed, at = bytearray(content), 8
    while at + 12 <= len(changed):
        end = at + 8 + struct.unpack_from(">I", changed, at)[0]
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(changed[at + 4 : end]))
        at = end + 4
    return bytes(changed)


@pytest.fixture(scope="module")
def processes() -> Iterator[InspectingProcesses]:
    running = InspectingProcesses()
    yield running
    running.stop()


def outcome(processes: InspectingProcesses, content: bytes, content_type: str) -> Inspection | ContentRefused:
    try:
        if not content:
            return processes.inspect_ranges(lambda _at, _length: b"", 0, content_type)
        return processes.inspect_ranges(lambda at, length: content[at : at + length], len(content), content_type)
    except ContentRefused as refused:
        return refused


@pytest.mark.timeout(600)
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_damaged_files_are_read_or_refused(processes: InspectingProcesses, content_type: str) -> None:
    source = random.Random(f"{SEED} {content_type}")
    print(f"seed {SEED}, {ROUNDS} files of {content_type}")
    files = seeds_of(content_type)
    read = refused = 0
    for number in range(ROUNDS):
        content = mutated(source, source.choice(files))
        if content_type == PNG and source.random() < 0.8:
            content = with_sums(content)
        found = outcome(processes, content, content_type)
        if isinstance(found, ContentRefused):
            refused += 1
            assert found.message.isprintable(), number
        else:
            read += 1
            assert found.content_type == content_type, number
        if number % 50 == 0:
            # The process that looked at it is as good as before.
            assert isinstance(outcome(processes, files[0], content_type), Inspection), number
    assert read, "nothing was sound: the damage is too great to find anything"
    assert refused, "nothing was refused: the damage is too small to find anything"


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_every_file_that_is_cut_off_is_refused(processes: InspectingProcesses, content_type: str) -> None:
    source = random.Random(f"{SEED} {content_type} cut")
    print(f"seed {SEED}")
    for content in seeds_of(content_type):
        for _ in range(ROUNDS // 10):
            # What is behind the last byte that counts is fill.
            length = source.randrange(len(content.rstrip(b"\0\r\n ")))
            assert isinstance(outcome(processes, content[:length], content_type), ContentRefused), length


@pytest.mark.parametrize("content_type", [JPEG, PNG, MP4])
def test_previews_of_damaged_files_are_drawn_or_not(processes: InspectingProcesses, content_type: str) -> None:
    source = random.Random(f"{SEED} {content_type} drawn")
    print(f"seed {SEED}")
    files = seeds_of(content_type)
    drawn = 0
    for _ in range(ROUNDS // 5):
        content = mutated(source, source.choice(files)) or b"\0"
        try:
            previews = processes.draw_ranges(
                lambda at, length, content=content: content[at : at + length],  # type: ignore[misc]  # bound at once
                len(content),
                content_type,
            )
        except ContentRefused:
            continue
        drawn += 1
        assert previews.thumbnail.startswith(b"\xff\xd8\xff")
    assert drawn
