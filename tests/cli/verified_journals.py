"""Journals of a county and of the city that holds its copy, in real databases, to be tampered with."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
import sqlalchemy as sa

from services.common.clock import SystemClock
from services.common.database import create_engine, raw_connection
from services.journal import tables
from services.journal.entries import EntryBuilder
from services.journal.mounting import JournalParts
from services.journal.notes import Signer, signer_name
from services.journal.receiver import IncomingBatch
from tests.conftest import Databases

COUNTY, CITY = "141025", "141000"
STREAM = "weighing"
KIND = "zhichao.test.v1.Note"

# Two complete tiles of 256, and a rest with several peaks.
SIZE = 701


class NoProjection:
    """Projects nothing."""

    kinds: Mapping[str, int] = MappingProxyType({KIND: 1})

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Any:
        return payload

    def project(self, connection: Any, origin: str, prepared: Any) -> None:
        """Keep nothing."""


class Keys:
    """The signing keys of both platforms."""

    def __init__(self, directory: Path) -> None:
        from services.journal.notes import new_private_key_pem

        self.signers = {}
        for platform in (COUNTY, CITY):
            path = directory / f"{platform}.pem"
            path.write_bytes(new_private_key_pem())
            self.signers[platform] = Signer.from_pem_file(signer_name(platform), path)


@contextmanager
def opened(url: str, keys: Keys, platform: str, digest: str = "sha256") -> Iterator[tuple[JournalParts, sa.Engine]]:
    """Open a platform's journal; the tail is not started."""
    engine = create_engine(url, pool_size=4, application_name="test-verify")
    parts = JournalParts.build(engine, platform, STREAM, keys.signers[platform], digest, NoProjection(), SystemClock())
    try:
        yield parts, engine
    finally:
        engine.dispose()


def make_tables(url: str) -> None:
    """Make the journal's tables."""
    metadata = sa.MetaData()
    tables.define(metadata)
    engine = create_engine(url, pool_size=2, application_name="test-verify")
    metadata.create_all(engine)
    engine.dispose()


def write_county(url: str, keys: Keys, *, size: int = SIZE, digest: str = "sha256") -> None:
    """Write the county's log."""
    make_tables(url)
    now = datetime.now(UTC)
    with opened(url, keys, COUNTY, digest) as (parts, engine):
        with engine.begin() as pooled:
            parts.writer.begin(raw_connection(pooled), now)
        written = 1
        while written < size:
            count = min(1_000, size - written)
            payloads = [f"weighing {written + place}".encode() for place in range(count)]
            with engine.begin() as pooled:
                connection = raw_connection(pooled)
                head = parts.writer.lock(connection)
                entries = EntryBuilder(KIND, 1, now).build_all(payloads, parts.writer.digester)
                parts.writer.append(connection, head, entries, now)
            written += count


def carry_up(county_url: str, city_url: str, keys: Keys) -> None:
    """Copy the county's log to the city, and its cosignature back, as the relays do."""
    make_tables(city_url)
    with opened(county_url, keys, COUNTY) as (county, _), opened(city_url, keys, CITY) as (city, engine):
        with engine.begin() as pooled:
            city.writer.begin(raw_connection(pooled), datetime.now(UTC))
        first = 1
        while (batch := county.reader.read(COUNTY, first, 300)) is not None:
            incoming = IncomingBatch(COUNTY, batch.first_sequence, batch.entries, batch.checkpoint)
            (received,) = city.receiver.receive_all([incoming])
            county.handlers.add_cosignatures(received.checkpoint)
            first = batch.last_sequence + 1


def cloned(databases: Databases, template: str) -> Iterator[str]:
    """Yield the URL of a copy of a database and drop it afterwards: the body of a fixture."""
    url = databases.create(str(psycopg.conninfo.conninfo_to_dict(template)["dbname"]))
    yield url
    databases.drop(url)


class Tamperer:
    """Changes what a database holds behind the services' backs."""

    def __init__(self, url: str, origin: str = COUNTY) -> None:
        self._url = url
        self._origin = origin

    def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; `:o` stands for the origin."""
        with psycopg.connect(self._url) as connection:
            cursor = connection.execute(sql.replace(":o", f"'{self._origin}'").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def entry(self, sequence: int) -> bytes:
        """Return the bytes of an entry."""
        ((entry,),) = self.run("SELECT entry FROM journal_entries WHERE origin = :o AND sequence = %s", sequence)
        return bytes(entry)

    def change_bytes(self, sequence: int) -> None:
        """Change the last byte of an entry."""
        entry = self.entry(sequence)
        changed = entry[:-1] + bytes([entry[-1] ^ 1])
        self.run("UPDATE journal_entries SET entry = %s WHERE origin = :o AND sequence = %s", changed, sequence)

    def change_leaf(self, sequence: int) -> None:
        """Put another digest beside an entry."""
        leaf = hashlib.sha256(b"another").digest()
        self.run("UPDATE journal_entries SET leaf = %s WHERE origin = :o AND sequence = %s", leaf, sequence)

    def change_together(self, sequence: int) -> None:
        """Change an entry, and its digest with it."""
        self.change_bytes(sequence)
        leaf = hashlib.sha256(b"\x00" + self.entry(sequence)).digest()
        self.run("UPDATE journal_entries SET leaf = %s WHERE origin = :o AND sequence = %s", leaf, sequence)

    def swap(self, one: int, other: int) -> None:
        """Exchange two entries with their digests."""
        for before, after in ((one, -1), (other, one), (-1, other)):
            self.run("UPDATE journal_entries SET sequence = %s WHERE origin = :o AND sequence = %s", after, before)

    def delete(self, sequence: int) -> None:
        """Remove an entry."""
        self.run("DELETE FROM journal_entries WHERE origin = :o AND sequence = %s", sequence)

    def change_note(self, size: int, change: Any) -> None:
        """Put another text in the place of a checkpoint."""
        ((note,),) = self.run("SELECT note FROM journal_checkpoints WHERE origin = :o AND size = %s", size)
        self.run("UPDATE journal_checkpoints SET note = %s WHERE origin = :o AND size = %s", change(note), size)
