"""Directives one by one: what arrives, and what is known of their recipients."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.common.database import RawConnection
from services.enforcement.rules import Course
from services.enforcement.store.inbox import Change, add_change


class Name(NamedTuple):
    """What names a directive of a known kind."""

    issuer: str
    directive_id: str


class ArrivedDirective(NamedTuple):
    """One entry of a directive."""

    issuer: str
    kind: int
    directive_id: str
    sequence: int
    issue_time: datetime
    deadline_time: datetime | None
    subkind: int
    audiences: tuple[str, ...]
    recipients: tuple[str, ...]
    content: bytes


class ArrivedWithdrawal(NamedTuple):
    """One entry of a withdrawal."""

    issuer: str
    kind: int
    directive_id: str
    sequence: int
    content: bytes


class ArrivedResponse(NamedTuple):
    """One entry of a response."""

    issuer: str
    kind: int
    directive_id: str
    platform: str
    sequence: int
    response_time: datetime
    content: bytes


class Row(NamedTuple):
    """A directive as held."""

    issuer: str
    directive_id: str
    first_sequence: int
    issue_time: datetime
    deadline_time: datetime | None
    audiences: list[str]
    content: bytes

    @property
    def name(self) -> Name:
        """What names it."""
        return Name(self.issuer, self.directive_id)


class ResponseRow(NamedTuple):
    """A response as held."""

    sequence: int
    content: bytes


COLUMNS: Final = "d.issuer, d.directive_id, d.first_sequence, d.issue_time, d.deadline_time, d.audiences, d.content"
"""What a Row takes of `directives d`."""


def put_directive(connection: RawConnection, arrived: ArrivedDirective) -> None:
    """Write one entry of a directive; the caller holds the inbox.

    Further entries of it, for other audiences, only widen the range of its sequences. What it says is what the first of
    them says, in whatever order they are replayed: the issuer writes the same into all.
    """
    row = connection.execute(
        "INSERT INTO directives AS held (issuer, kind, directive_id, first_sequence, last_sequence, issue_time,"
        " deadline_time, subkind, audiences, content) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (issuer, kind, directive_id) DO UPDATE SET"
        " first_sequence = LEAST(held.first_sequence, excluded.first_sequence),"
        " last_sequence = GREATEST(held.last_sequence, excluded.last_sequence),"
        " (issue_time, deadline_time, subkind, audiences, content) = (SELECT"
        "  first.issue_time, first.deadline_time, first.subkind, first.audiences, first.content FROM (VALUES"
        "  (held.first_sequence, held.issue_time, held.deadline_time, held.subkind, held.audiences, held.content),"
        "  (excluded.first_sequence, excluded.issue_time, excluded.deadline_time, excluded.subkind, excluded.audiences,"
        "   excluded.content)) AS first (sequence, issue_time, deadline_time, subkind, audiences, content)"
        "  ORDER BY first.sequence LIMIT 1)"
        # A row that was just inserted has never been deleted or locked by anybody.
        " RETURNING xmax = 0",
        (
            arrived.issuer,
            arrived.kind,
            arrived.directive_id,
            arrived.sequence,
            arrived.sequence,
            arrived.issue_time,
            arrived.deadline_time,
            arrived.subkind,
            list(arrived.audiences),
            arrived.content,
        ),
    ).fetchone()
    connection.execute(
        "INSERT INTO directive_recipients (issuer, kind, directive_id, platform)"
        " SELECT %s, %s, %s, platform FROM unnest(%s::text[]) AS platform ON CONFLICT DO NOTHING",
        (arrived.issuer, arrived.kind, arrived.directive_id, list(arrived.recipients)),
    )
    if row is not None and row[0]:
        add_change(connection, Change.ARRIVED, arrived.issuer, arrived.kind, arrived.directive_id, arrived.issuer)


def put_withdrawal(connection: RawConnection, arrived: ArrivedWithdrawal) -> None:
    """Write one entry of a withdrawal; the first of them counts. The caller holds the inbox."""
    row = connection.execute(
        "INSERT INTO directive_withdrawals AS held (issuer, kind, directive_id, sequence, content)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (issuer, kind, directive_id) DO UPDATE SET"
        " sequence = excluded.sequence, content = excluded.content WHERE excluded.sequence < held.sequence"
        " RETURNING xmax = 0",
        (arrived.issuer, arrived.kind, arrived.directive_id, arrived.sequence, arrived.content),
    ).fetchone()
    if row is not None and row[0]:
        add_change(connection, Change.WITHDRAWN, arrived.issuer, arrived.kind, arrived.directive_id, arrived.issuer)


def put_response(connection: RawConnection, arrived: ArrivedResponse) -> None:
    """Write a response; the first one of a platform counts. The caller holds the inbox."""
    row = connection.execute(
        "INSERT INTO directive_responses AS held"
        " (issuer, kind, directive_id, platform, sequence, response_time, content)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (issuer, kind, directive_id, platform) DO UPDATE SET"
        " sequence = excluded.sequence, response_time = excluded.response_time, content = excluded.content"
        " WHERE excluded.sequence < held.sequence RETURNING xmax = 0",
        (
            arrived.issuer,
            arrived.kind,
            arrived.directive_id,
            arrived.platform,
            arrived.sequence,
            arrived.response_time,
            arrived.content,
        ),
    ).fetchone()
    if row is not None and row[0]:
        add_change(connection, Change.RESPONDED, arrived.issuer, arrived.kind, arrived.directive_id, arrived.platform)


def read_directive(connection: RawConnection, kind: int, name: Name) -> Row | None:
    """Return one directive."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM directives d WHERE d.issuer = %s AND d.kind = %s AND d.directive_id = %s".encode(),  # noqa: S608 - our own columns
        (name.issuer, kind, name.directive_id),
    ).fetchone()
    return Row(*row) if row else None


def read_issuers(connection: RawConnection, kind: int, directive_id: str) -> list[str]:
    """Return who has issued a directive with this id, by code."""
    rows = connection.execute(
        "SELECT issuer FROM directives WHERE kind = %s AND directive_id = %s ORDER BY issuer", (kind, directive_id)
    )
    return [issuer for (issuer,) in rows]


def read_withdrawals(connection: RawConnection, kind: int, names: Sequence[Name]) -> dict[Name, bytes]:
    """Return the withdrawals of those directives that were taken back."""
    rows = connection.execute(
        "SELECT issuer, directive_id, content FROM directive_withdrawals"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (issuer, directive_id) USING (issuer, directive_id)"
        " WHERE kind = %s",
        (*_columns(names), kind),
    )
    return {Name(issuer, directive_id): content for issuer, directive_id, content in rows}


def read_courses(
    connection: RawConnection, kind: int, names: Sequence[Name], platforms: Sequence[str] | None
) -> dict[Name, list[Course]]:
    """Return what is known of the recipients of directives, by platform code; only of certain platforms if given.

    Received is what any entry of the directive has a receipt for; of several the first counts.
    """
    receipts = connection.execute(
        "SELECT d.issuer, d.directive_id, t.platform, min(t.receive_time) FROM directives d"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (issuer, directive_id) USING (issuer, directive_id)"
        " JOIN journal_addressed_receipts t ON t.origin = d.issuer"
        "  AND t.sequence BETWEEN d.first_sequence AND d.last_sequence"
        " WHERE d.kind = %s AND (%s::text[] IS NULL OR t.platform = ANY(%s::text[])) GROUP BY 1, 2, 3",
        (*_columns(names), kind, _list(platforms), _list(platforms)),
    )
    received: Mapping[tuple[str, str, str], datetime] = {(row[0], row[1], row[2]): row[3] for row in receipts}
    rows = connection.execute(
        "SELECT issuer, directive_id, r.platform, a.response_time FROM directive_recipients r"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (issuer, directive_id) USING (issuer, directive_id)"
        " LEFT JOIN directive_responses a USING (issuer, kind, directive_id, platform)"
        " WHERE kind = %s AND (%s::text[] IS NULL OR r.platform = ANY(%s::text[])) ORDER BY r.platform",
        (*_columns(names), kind, _list(platforms), _list(platforms)),
    )
    courses: dict[Name, list[Course]] = {name: [] for name in names}
    for issuer, directive_id, platform, response_time in rows:
        receive_time = received.get((issuer, directive_id, platform))
        courses[Name(issuer, directive_id)].append(Course(platform, receive_time, response_time))
    return courses


def read_recipients(
    connection: RawConnection,
    kind: int,
    name: Name,
    platforms: Sequence[str] | None,
    after_platform: str,
    count: int,
) -> list[str]:
    """Return the next recipients of a directive by platform code; only certain platforms if given."""
    rows = connection.execute(
        "SELECT platform FROM directive_recipients WHERE issuer = %s AND kind = %s AND directive_id = %s"
        " AND platform > %s AND (%s::text[] IS NULL OR platform = ANY(%s::text[])) ORDER BY platform LIMIT %s",
        (name.issuer, kind, name.directive_id, after_platform, _list(platforms), _list(platforms), count),
    )
    return [platform for (platform,) in rows]


def read_responses(
    connection: RawConnection, kind: int, names: Sequence[Name], platforms: Sequence[str]
) -> dict[tuple[Name, str], ResponseRow]:
    """Return the responses of some platforms to some directives."""
    rows = connection.execute(
        "SELECT issuer, directive_id, platform, sequence, content FROM directive_responses"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (issuer, directive_id) USING (issuer, directive_id)"
        " WHERE kind = %s AND platform = ANY(%s::text[])",
        (*_columns(names), kind, list(platforms)),
    )
    return {(Name(row[0], row[1]), row[2]): ResponseRow(row[3], row[4]) for row in rows}


def _columns(names: Sequence[Name]) -> tuple[list[str], list[str]]:
    return [name.issuer for name in names], [name.directive_id for name in names]


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
