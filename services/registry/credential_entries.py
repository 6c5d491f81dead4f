"""Writes credentials into the own log: entries, and the rows that follow. Runs in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime

from services.common.database import RawConnection
from services.journal.entries import EntryBuilder
from services.journal.log_writer import LogWriter
from services.journal.store import LogHead
from services.registry import convert_access
from services.registry.projection import prepare_credential
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import CredentialRow
from zhichao.access.v1 import credential_pb2 as pb


def append(
    connection: RawConnection,
    writer: LogWriter,
    head: LogHead,
    messages: Sequence[pb.Credential],
    now: datetime,
    *,
    actor: str,
    request_id: str = "",
) -> list[CredentialRow]:
    """Append one entry for each credential as it is now, all different ones, and return their rows.

    `head` is that of the own log, locked by the caller.
    """
    payloads = [convert_access.to_payload(message) for message in messages]
    builder = EntryBuilder(convert_access.KIND, convert_access.SCHEMA, now, actor, request_id)
    places = writer.append(connection, head, [builder.build(payload, writer.digester) for payload in payloads], now)
    # The same way as received entries, so that table and journal cannot disagree.
    rows = [prepare_credential(payload).at(place.sequence) for payload, place in zip(payloads, places, strict=True)]
    credential_store.upsert(connection, writer.origin, rows)
    written = [credential_store.read(connection, writer.origin, message.credential_id) for message in messages]
    if None in written:
        raise LookupError("a credential that was just written is not there")
    return [row for row in written if row is not None]
