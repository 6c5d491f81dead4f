"""Entries as a faulty or a newer release would write them: into the log of a service, and not into its tables."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from services.common.database import create_engine, raw_connection
from services.common.settings import PlatformSettings, load
from services.journal.entries import EntryBuilder
from services.journal.log_writer import LogWriter
from services.journal.signing import load_signer


def append_raw(
    environment: Mapping[str, str],
    database_url: str,
    stream: str,
    now: datetime,
    kind: str,
    payloads: Iterable[bytes],
    *,
    audience: str = "",
    schema: int = 1,
) -> None:
    """Write entries into the own log of a service, which its settings and its database say."""
    settings = load(PlatformSettings, environment)
    writer = LogWriter(settings.platform, stream, load_signer(settings), settings.journal_digest)
    engine = create_engine(database_url, pool_size=2, application_name="test")
    try:
        with engine.begin() as pooled:
            connection = raw_connection(pooled)
            builder = EntryBuilder(kind, schema, now, audience=audience)
            added = [builder.build(payload, writer.digester) for payload in payloads]
            writer.append(connection, writer.lock(connection), added, now)
    finally:
        engine.dispose()
