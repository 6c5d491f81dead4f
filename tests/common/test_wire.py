"""Serialised messages are taken apart as parsing would, without its cost, whatever the bytes are."""

import subprocess
import sys

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire import OTHER_FIELDS_MAX, MalformedMessage, count_repeated, repeated
from zhichao.journal.v1 import journal_pb2 as pb

BATCH = pb.AppendEntriesRequest.BATCH_FIELD_NUMBER
ENTRIES = pb.EntryBatch.ENTRIES_FIELD_NUMBER

MEGABYTE = 1024 * 1024

entry_lists = st.lists(st.binary(max_size=300), max_size=40)


def batch(entries: list[bytes], **fields: str) -> pb.EntryBatch:
    return pb.EntryBatch(origin="141025", first_sequence=1 << 40, entries=entries, checkpoint="note", **fields)


@given(entry_lists)
def test_elements_are_those_of_the_parsed_message(entries: list[bytes]) -> None:
    assert repeated(batch(entries).SerializeToString(), ENTRIES, 40) == entries


@given(entry_lists, entry_lists)
def test_elements_of_all_messages_on_the_way_are_counted(first: list[bytes], second: list[bytes]) -> None:
    # A message that occurs twice is merged by whoever parses it: the elements of both count.
    content = b"".join(pb.AppendEntriesRequest(batch=batch(one)).SerializeToString() for one in (first, second))

    assert len(pb.AppendEntriesRequest.FromString(content).batch.entries) == len(first) + len(second)
    assert count_repeated(content, [BATCH, ENTRIES], 80) == len(first) + len(second)


@given(st.integers(0, 12))
def test_counting_stops_one_beyond_the_limit(most: int) -> None:
    content = batch([b"x"] * 10).SerializeToString()

    assert len(repeated(content, ENTRIES, most)) == min(10, most + 1)
    assert count_repeated(content, [ENTRIES], most) == min(10, most + 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_counted_as_parsed_or_refused(content: bytes) -> None:
    try:
        parsed = pb.EntryBatch.FromString(content)
    except DecodeError:
        parsed = None
    try:
        found = repeated(content, ENTRIES, 200)
    except MalformedMessage:
        # Groups, which no version of our messages has, are the one thing that parsing takes and we do not.
        return
    if parsed is not None:
        assert found == list(parsed.entries)


@pytest.mark.parametrize(
    "content",
    [
        b"\x1a",
        b"\x1a\x05abc",
        b"\x1a\xff",
        b"\x80" * 11,
        b"\x0d\x00",
        b"\x09\x00",
        b"\x0b",
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedMessage):
        repeated(content, ENTRIES, 10)


def test_fields_that_nobody_asked_for_are_bounded() -> None:
    assert repeated(b"\x78\x00" * OTHER_FIELDS_MAX + b"\x1a\x01x", ENTRIES, 1) == [b"x"]
    with pytest.raises(MalformedMessage, match="other fields"):
        repeated(b"\x78\x00" * (OTHER_FIELDS_MAX + 1), ENTRIES, 1)


def test_a_message_of_millions_of_empty_entries_takes_no_memory() -> None:
    # In a process of its own: the largest size that a process ever had is known only as a whole.
    program = f"""
import resource
from services.common.wire import count_repeated
content = {16 * MEGABYTE - 8}
content = b"\\x0a" + {_varint(16 * MEGABYTE - 8)!r} + b"\\x1a\\x00" * (content // 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert count_repeated(content, [{BATCH}, {ENTRIES}], 1024) == 1025
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert int(done.stdout) * 1024 <= 4 * MEGABYTE


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
