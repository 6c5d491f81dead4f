"""Uploads straight to the store that are under way."""

from datetime import datetime
from typing import NamedTuple

from services.common.database import RawConnection


class UploadRow(NamedTuple):
    """An upload straight to the store."""

    source_unit_id: str
    evidence_id: str
    draft: bytes
    """The EvidenceDraft."""
    actor: str
    staging_key: str
    multipart_id: str
    """Tells one upload under a name from the next."""
    part_bytes: int
    size_bytes: int
    begin_time: datetime
    expire_time: datetime


class Usage(NamedTuple):
    """How many uploads are under way, and their bytes when they are complete: of all, and of one source unit."""

    upload_count: int
    size_bytes: int
    unit_upload_count: int
    unit_size_bytes: int


_COLUMNS = ", ".join(UploadRow._fields)


def read_upload(connection: RawConnection, source_unit_id: str, evidence_id: str) -> UploadRow | None:
    """Return an upload, also one that has expired and is still here."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE source_unit_id = %s AND evidence_id = %s",  # noqa: S608 - our own names
        (source_unit_id, evidence_id),
    ).fetchone()
    return UploadRow(*row) if row else None


def put_upload(connection: RawConnection, row: UploadRow, replaced_multipart_id: str) -> bool:
    """Begin an upload in the place of the one that was read there, or of none (empty); False if it is another now."""
    written = connection.execute(
        f"INSERT INTO uploads ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - our own names
        " ON CONFLICT (source_unit_id, evidence_id) DO UPDATE SET draft = excluded.draft, actor = excluded.actor,"
        " staging_key = excluded.staging_key, multipart_id = excluded.multipart_id,"
        " part_bytes = excluded.part_bytes, size_bytes = excluded.size_bytes, begin_time = excluded.begin_time,"
        " expire_time = excluded.expire_time WHERE uploads.multipart_id = %s",
        (*row, replaced_multipart_id),
    )
    return written.rowcount == 1


def keep_upload(connection: RawConnection, row: UploadRow, expire_time: datetime) -> bool:
    """Keep an upload until then at least; False if it is here no more."""
    kept = connection.execute(
        "UPDATE uploads SET expire_time = greatest(expire_time, %s)"
        " WHERE source_unit_id = %s AND evidence_id = %s AND multipart_id = %s",
        (expire_time, row.source_unit_id, row.evidence_id, row.multipart_id),
    )
    return kept.rowcount == 1


def forget_upload(connection: RawConnection, row: UploadRow, expired_by: datetime | None = None) -> bool:
    """Forget an upload; with `expired_by` only if it has expired by then. False if it is another now, or kept."""
    forgotten = connection.execute(
        "DELETE FROM uploads WHERE source_unit_id = %s AND evidence_id = %s AND multipart_id = %s"
        " AND expire_time <= coalesce(%s, expire_time)",
        (row.source_unit_id, row.evidence_id, row.multipart_id, expired_by),
    )
    return forgotten.rowcount == 1


def expired_uploads(connection: RawConnection, now: datetime, count: int) -> list[UploadRow]:
    """Return uploads that have expired, the oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE expire_time <= %s ORDER BY expire_time LIMIT %s",  # noqa: S608 - our own names
        (now, count),
    )
    return [UploadRow(*row) for row in rows]


def read_usage(connection: RawConnection, source_unit_id: str) -> Usage:
    """Add up uploads under way."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0)::bigint, count(*) FILTER (WHERE source_unit_id = %s),"
        " coalesce(sum(size_bytes) FILTER (WHERE source_unit_id = %s), 0)::bigint FROM uploads",
        (source_unit_id, source_unit_id),
    ).fetchone()
    return Usage(*row) if row else Usage(0, 0, 0, 0)


def count_uploads(connection: RawConnection) -> int:
    """Count uploads under way."""
    row = connection.execute("SELECT count(*) FROM uploads").fetchone()
    return int(row[0]) if row else 0
