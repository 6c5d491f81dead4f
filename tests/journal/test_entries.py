"""Entry bytes, built by joining parts, against what protobuf itself makes and reads."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.journal.digests import Digester
from services.journal.entries import (
    LOG_START_KIND,
    EntryBuilder,
    is_platform_code,
    parse,
    parse_log_start,
    timestamp,
    varint,
    written_at,
)
from zhichao.journal.v1 import entry_pb2

KIND = "zhichao.test.v1.Note"
NOW = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)
# Around every change of the length's own length, and one beyond the precomputed prefixes.
LENGTHS = [0, 1, 127, 128, 255, 16_383, 16_384, 65_000]


def whole(payload: bytes, schema: int = 1, actor: str = "", request_id: str = "") -> entry_pb2.Entry:
    return entry_pb2.Entry(
        kind=KIND, schema=schema, write_time=timestamp(NOW), payload=payload, actor=actor, request_id=request_id
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_built_bytes_are_an_entry(length: int) -> None:
    payload = bytes(range(256)) * (length // 256 + 1)
    payload = payload[:length]
    built = EntryBuilder(KIND, 7, NOW, "terminal/1", "0123456789abcdef").build_bytes(payload)
    assert entry_pb2.Entry.FromString(built) == whole(payload, 7, "terminal/1", "0123456789abcdef")


@given(
    st.binary(max_size=20_000),
    st.integers(0, 2**32 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_any_parts_are_read_back(payload: bytes, schema: int, actor: str, request_id: str) -> None:
    builder = EntryBuilder(KIND, schema, NOW, actor, request_id)
    assert parse(builder.build_bytes(payload)) == whole(payload, schema, actor, request_id)


def test_building_is_deterministic_and_batches_equal_single_entries() -> None:
    digester = Digester("sha256")
    payloads = [b"", b"a", b"b" * 200]
    singly = [EntryBuilder(KIND, 1, NOW).build(payload, digester) for payload in payloads]
    assert EntryBuilder(KIND, 1, NOW).build_all(payloads, digester) == singly
    assert [new.leaf for new in singly] == [digester.leaf(new.entry) for new in singly]


@given(st.integers(0, 2**63))
def test_varints_are_protobufs(number: int) -> None:
    tag = bytes([1 << 3])
    assert entry_pb2.Entry.FromString(tag + varint(number)) == entry_pb2.Entry.FromString(tag + varint(number))
    read, shift = 0, 0
    for byte in varint(number):
        read |= (byte & 0x7F) << shift
        shift += 7
    assert read == number
    assert len(varint(number)) == max(1, -(-number.bit_length() // 7))


@given(st.binary(max_size=200))
def test_other_bytes_are_no_entry_or_one_but_never_an_error(content: bytes) -> None:
    parse(content)
    parse_log_start(content)
    written_at(content)


def test_invalid_utf8_is_no_entry() -> None:
    assert parse(b"\x0a\x02\xff\xfe") is None


def test_log_starts_are_read_from_entries_of_their_kind_only() -> None:
    start = entry_pb2.LogStart(origin="141025", stream="weighing", digest_algorithm="sha256", verifier_key="key")
    payload = start.SerializeToString()
    assert parse_log_start(EntryBuilder(LOG_START_KIND, 1, NOW).build_bytes(payload)) == start
    assert parse_log_start(EntryBuilder(KIND, 1, NOW).build_bytes(payload)) is None
    assert parse_log_start(EntryBuilder(LOG_START_KIND, 1, NOW).build_bytes(b"\xff")) is None


def test_the_time_of_an_entry() -> None:
    assert written_at(EntryBuilder(KIND, 1, NOW).build_bytes(b"")) == NOW
    assert written_at(entry_pb2.Entry(kind=KIND).SerializeToString()) is None
    assert written_at(b"\xff") is None


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (253_402_300_800, 0), (0, 2_000_000_000), (0, -1)]
)
def test_a_time_that_is_none_is_no_time(seconds: int, nanos: int) -> None:
    entry = entry_pb2.Entry(write_time=Timestamp(seconds=seconds, nanos=nanos)).SerializeToString()
    found = written_at(entry)
    assert found is None or abs(found - datetime(1970, 1, 1, tzinfo=UTC)) < timedelta(seconds=3)


@pytest.mark.parametrize(
    "text", ["", "14102", "1410255", "14102a", "１４１０２５", "١٤١٠٢٥", "14102²", " 14102", "14102\n"]
)
def test_what_is_no_platform_code(text: str) -> None:
    assert not is_platform_code(text)


def test_a_platform_code() -> None:
    assert is_platform_code("141025")
