"""PostgreSQL's binary COPY format (PostgreSQL manual, COPY, binary format): rows packed by hand for the hot path."""

import struct
from collections.abc import Iterable
from typing import Any, Final

import psycopg

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
"""Signature, flags and header extension length."""

TRAILER: Final = struct.pack("!h", -1)
"""End of the data."""

NULL: Final = struct.pack("!i", -1)
"""A field that is NULL."""

CHUNK_BYTES: Final = 256 * 1024
"""Bytes handed to libpq at once: about the size of a socket buffer, so that few waits are needed."""


def copy_content(rows: Iterable[bytes]) -> bytes:
    """Return rows, each already in binary form, as the content of one COPY. Pure."""
    return b"".join((HEADER, *rows, TRAILER))


def send_copy(connection: psycopg.Connection[Any], statement: bytes, content: bytes) -> None:
    """Send content with one COPY statement that names BINARY."""
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        view = memoryview(content)
        for start in range(0, len(content), CHUNK_BYTES):
            copy.write(view[start : start + CHUNK_BYTES])
