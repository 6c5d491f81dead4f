"""Entries of a batch read together give what parsing each gives, whatever the bytes are."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.journal.entries import EntryBuilder, parse, payload_opening, varint
from services.journal.payloads import read_payloads
from tests.journal.paper_log import KIND, NOW
from zhichao.journal.v1 import entry_pb2

Read = tuple[bool, str, int, bytes]


def read_together(batch: list[bytes]) -> list[Read]:
    return [(run.is_entry, run.kind, run.schema, payload) for run in read_payloads(batch) for payload in run.payloads]


def read_singly(batch: list[bytes]) -> list[Read]:
    read: list[Read] = []
    for entry in batch:
        parsed = parse(entry)
        read.append((True, parsed.kind, parsed.schema, parsed.payload) if parsed else (False, "", 0, b""))
    return read


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def long_opening(length: int) -> bytes:
    """Return tag and length in one byte more than needed."""
    shortest = varint(length)
    return b"\x22" + shortest[:-1] + bytes([shortest[-1] | 0x80, 0])


# Few different beginnings and contents, so that entries in a row share them; and the ways in which bytes that begin or
# end like the entry before mean something else.
PAYLOADS = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"", b"x" * 126, b"x" * 127, b"x" * 128, b"x" * 129, b"x" * 16_383, b"x" * 16_384]),
    st.just(field(4, b"x")),
)
BEGINNINGS = st.one_of(
    st.builds(
        lambda kind, schema, actor: entry_pb2.Entry(kind=kind, schema=schema, actor=actor).SerializeToString(),
        st.sampled_from(["", KIND, "other"]),
        st.sampled_from([0, 1, 300]),
        st.sampled_from(["", "somebody"]),
    ),
    # A payload already; a field of a newer release; one that is cut off; one that promises more than its beginning.
    st.sampled_from([b"", field(4, b"before"), field(99, b"newer"), b"\x0a", b"\x0a\x05abc", field(2, b""), b"\xff"]),
    st.sampled_from([b"\x3a\x05abc", b"\x2b", b"\x2b\x2c", b"\x10\x01"]),
)
ENDS = st.sampled_from([b"", b"", b"", b"\x10\x02", field(99, b"x"), field(4, b"again"), b"\x22", b"\x22\x7f"])
LENGTH_FORMS = st.sampled_from([payload_opening, payload_opening, long_opening])
RESTS = st.one_of(
    st.builds(
        lambda payload, opening, end: opening(len(payload)) + payload + end,
        PAYLOADS,
        LENGTH_FORMS,
        ENDS,
    ),
    ENDS,
)
GROUPS = st.one_of(
    st.builds(lambda beginning, rests: [beginning + rest for rest in rests], BEGINNINGS, st.lists(RESTS, max_size=6)),
    st.lists(st.binary(max_size=12), max_size=2),
)
BATCHES = st.lists(GROUPS, max_size=4).map(lambda groups: [entry for group in groups for entry in group])


@settings(max_examples=1_500, deadline=None)
@given(BATCHES)
# The end of a field's content looks like a payload field: what follows such a beginning is no entry.
@example([field(4, b"x") + field(7, b"abc" + field(4, b"x")), field(4, b"x") + b"\x3a\x06abc" + field(4, b"yyyy")])
# A length in more bytes than it needs.
@example([b"\x10\x01" + field(4, b"x"), b"\x10\x01\x22\x81\x00x"])
def test_reading_together_gives_what_parsing_each_gives(batch: list[bytes]) -> None:
    assert read_together(batch) == read_singly(batch)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([KIND, "other"]), st.sampled_from(["", "a", "b"]), PAYLOADS), min_size=1, max_size=30
    )
)
def test_entries_as_they_are_written(written: list[tuple[str, str, bytes]]) -> None:
    batch = [EntryBuilder(kind, 1, NOW, actor, "request").build_bytes(payload) for kind, actor, payload in written]
    assert read_together(batch) == [(True, kind, 1, payload) for kind, _, payload in written]


def test_entries_written_together_are_one_run() -> None:
    builder = EntryBuilder(KIND, 1, NOW, "somebody", "request")
    payloads = [bytes(length) for length in range(300)]
    (run,) = read_payloads([builder.build_bytes(payload) for payload in payloads])
    assert run.payloads == payloads
