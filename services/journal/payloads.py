"""Reads kind, schema, audience and payload of the entries of a batch. Entries written together share everything before
the payload, so most are cut instead of parsed; what comes out is what parsing each would give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.journal.entries import parse, payload_opening

_OPENING_BYTES_MIN: Final = 2
_OPENING_BYTES_MAX: Final = 4
"""Bytes of a payload field before its content: a tag, and a length of up to 2 MiB, far beyond any entry."""


@dataclass(slots=True)
class PayloadRun:
    """Entries in a row that say the same before their payloads, or that are all no entries."""

    is_entry: bool
    kind: str
    schema: int
    payloads: list[bytes]
    """One for each entry; empty for bytes that are no entry."""
    audience: str = ""


def read_payloads(entries: Sequence[bytes]) -> list[PayloadRun]:
    """Read entries; the runs together have as many payloads, in order.

    An entry is cut when it is the beginning of the one before, a payload tag, the shortest form of a length, and
    exactly so many bytes. That gives what parsing gives: the beginning was parsed by itself, so it is whole fields, and
    of two payloads in one entry the last one counts (protobuf encoding, "Last One Wins").
    """
    runs: list[PayloadRun] = []
    place = 0
    while place < len(entries):
        entry = entries[place]
        place += 1
        parsed = parse(entry)
        if parsed is None:
            runs.append(PayloadRun(False, "", 0, [b""]))
            continue
        payload = parsed.payload
        run = PayloadRun(True, parsed.kind, parsed.schema, [payload], parsed.audience)
        runs.append(run)
        beginning = _beginning(entry, payload)
        # Looked at only when the next entry begins so too: entries written one by one share nothing.
        if beginning and place < len(entries) and entries[place].startswith(beginning) and parse(beginning) is not None:
            place = _cut(entries, place, beginning, run.payloads)
    return runs


def _cut(entries: Sequence[bytes], place: int, beginning: bytes, payloads: list[bytes]) -> int:
    """Cut entries from a place on; return the place of the first that has to be parsed."""
    # What an entry of a certain length must begin with: all but the payload.
    openings: dict[int, bytes] = {}
    for entry in entries[place:]:
        length = len(entry)
        opening = openings.get(length)
        if opening is None:
            opening = openings[length] = _opening(beginning, length)
        if not opening or not entry.startswith(opening):
            break
        payloads.append(entry[len(opening) :])
        place += 1
    return place


def _beginning(entry: bytes, payload: bytes) -> bytes:
    """Return what stands before the payload field if that comes last, and nothing otherwise.

    The end of another field's content may look like a payload field: the beginning counts only if it can be parsed.
    """
    field = payload_opening(len(payload)) + payload
    return entry[: -len(field)] if entry.endswith(field) else b""


def _opening(beginning: bytes, length: int) -> bytes:
    """Return beginning, tag and length that an entry of this many bytes is cut after; nothing when there are none."""
    rest = length - len(beginning)
    for width in range(_OPENING_BYTES_MIN, min(rest, _OPENING_BYTES_MAX) + 1):
        opening = payload_opening(rest - width)
        if len(opening) == width:
            return beginning + opening
    return b""
