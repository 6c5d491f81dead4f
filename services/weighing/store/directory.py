"""The weighing service's copy of the registry's directory: objects as journalled there, and the position they are
held at.
"""

from collections.abc import Sequence

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
