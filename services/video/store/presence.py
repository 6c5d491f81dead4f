"""When keeping was at work last, and from when on it may delete."""

from services.common.database import RawConnection
from services.video.keeping_rules import Presence


def read_presence(connection: RawConnection) -> Presence:
    """Return what is noted."""
    row = connection.execute("SELECT present_time, delete_after_time FROM scrub_state WHERE id = 1").fetchone()
    return Presence(*row) if row else Presence(None, None)


def keep_presence(connection: RawConnection, presence: Presence) -> None:
    """Note it."""
    connection.execute(
        "INSERT INTO scrub_state (id, present_time, delete_after_time) VALUES (1, %s, %s) ON CONFLICT (id)"
        " DO UPDATE SET present_time = excluded.present_time, delete_after_time = excluded.delete_after_time",
        (presence.present_time, presence.delete_after_time),
    )
