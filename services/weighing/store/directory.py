"""The weighing service's copy of the registry's directory: objects as journalled there, and the position they are
held at; and what platforms above have addressed to this one.
"""

from collections.abc import Sequence
from dataclasses import astuple

from services.journal.store.addressed import AddressedLog
from services.weighing.addressed import AddressedRow
from services.weighing.store.weighings import Connection


def read_objects(connection: Connection) -> list[tuple[str, bytes]]:
    """Return (kind, payload) of every object held."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute("SELECT kind, payload FROM directory_objects ORDER BY kind, key").fetchall()
    return [(row[0], row[1]) for row in rows]


def read_position(connection: Connection, origin: str) -> int:
    """Return the last sequence of the registry's log that is held; 0 before the first."""
    row = connection.execute("SELECT sequence FROM directory_positions WHERE origin = %s", (origin,)).fetchone()
    return row[0] if row else 0


def store_objects(
    connection: Connection, origin: str, sequence: int, objects: Sequence[tuple[str, str, bytes]]
) -> None:
    """Store (kind, key, payload) of objects that changed up to a sequence. Does nothing when another replica was
    first.
    """
    connection.execute(
        "INSERT INTO directory_positions (origin, sequence) VALUES (%s, 0) ON CONFLICT DO NOTHING", (origin,)
    )
    held = connection.execute(
        "SELECT sequence FROM directory_positions WHERE origin = %s FOR UPDATE", (origin,)
    ).fetchone()
    if held is not None and held[0] >= sequence:
        return
    # The last of several changes of one object within the batch is the one that holds.
    newest = {(kind, key): payload for kind, key, payload in objects}
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO directory_objects (kind, key, payload) VALUES (%s, %s, %s)"
            " ON CONFLICT (kind, key) DO UPDATE SET payload = excluded.payload",
            [(kind, key, payload) for (kind, key), payload in newest.items()],
        )
        cursor.execute("UPDATE directory_positions SET sequence = %s WHERE origin = %s", (sequence, origin))


def read_addressed_logs(connection: Connection) -> list[AddressedLog]:
    """Return where the registry logs of platforms above stand here."""
    rows = connection.execute(
        "SELECT origin, through_sequence, root, digest_algorithm, verifier_key FROM directory_addressed_logs"
    ).fetchall()
    return [AddressedLog(row[0], row[1], bytes(row[2]), row[3], row[4], None) for row in rows]


def read_addressed_entries(connection: Connection) -> list[AddressedRow]:
    """Return everything held of platforms above, in the order of each log."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT origin, sequence, audience, kind, schema, payload FROM directory_addressed_entries"
            " ORDER BY origin, sequence"
        ).fetchall()
    return [AddressedRow(*row) for row in rows]


def store_addressed(connection: Connection, log: AddressedLog, entries: Sequence[AddressedRow]) -> None:
    """Store entries, and how far their log was taken. What another replica has stored, or further, stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO directory_addressed_entries (origin, sequence, audience, kind, schema, payload)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [astuple(one) for one in entries],
        )
        cursor.execute(
            "INSERT INTO directory_addressed_logs AS held"
            " (origin, through_sequence, root, digest_algorithm, verifier_key) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (origin) DO UPDATE SET through_sequence = excluded.through_sequence, root = excluded.root"
            " WHERE held.through_sequence < excluded.through_sequence",
            (log.origin, log.through_sequence, log.root, log.digest_algorithm, log.verifier_key),
        )
