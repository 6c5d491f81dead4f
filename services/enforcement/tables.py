"""The tables of the enforcement service. All but the last are projections of its journal: own entries, those addressed
to this platform or to be passed on, and those that come up from platforms below. Beside them stands what is kept of the
registry's word on access.

Nothing refers to anything by a foreign key: logs of several origins come in any order, and an acknowledgement may be
here before its notice, as after a county has moved to this platform.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.common.access import tables as access_tables
from services.common.database import APPEND_ONLY
from services.journal import tables as journal_tables

METADATA = sa.MetaData()

journal_tables.define(METADATA)
access_tables.define(METADATA)


def _text(name: str, *, is_key: bool = False) -> sa.Column[Any]:
    # Collation C: ids and codes are compared byte by byte, here, in page tokens and on every other platform.
    return sa.Column(name, sa.Text(collation="C"), primary_key=is_key, nullable=False)


def _name() -> list[sa.Column[Any]]:
    """Return what names a directive: its issuer, whether it is a notice (1) or a duty check (2), and its id."""
    return [
        _text("issuer", is_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True, nullable=False, autoincrement=False),
        _text("directive_id", is_key=True),
    ]


DIRECTIVES = sa.Table(
    "directives",
    METADATA,
    *_name(),
    # Its entries in the issuer's log that are held here, one for each audience: receipts of them are receipts of it.
    # The issuer writes them without a gap.
    sa.Column("first_sequence", sa.BigInteger, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("issue_time", sa.DateTime(timezone=True), nullable=False),
    # Absent when there is no hurry.
    sa.Column("deadline_time", sa.DateTime(timezone=True), nullable=True),
    # Kind of a notice, form of the answer to a duty check.
    sa.Column("subkind", sa.Integer, nullable=False),
    sa.Column("audiences", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
    # The notice or duty check (payload of the first entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
    # A range of entries that runs backwards would match no receipt, without a word.
    sa.CheckConstraint("first_sequence BETWEEN 1 AND last_sequence", name="directives_sequence_check"),
)
# Lists are read newest first, a kind at a time.
sa.Index(
    "directives_by_issue_time",
    DIRECTIVES.c.kind,
    DIRECTIVES.c.issue_time,
    DIRECTIVES.c.issuer,
    DIRECTIVES.c.directive_id,
)
DIRECTIVE_RECIPIENTS = sa.Table(
    "directive_recipients",
    METADATA,
    *_name(),
    # Who is asked to respond.
    _text("platform", is_key=True),
    info=APPEND_ONLY,
)
# Lists for one division ask which platforms there are.
sa.Index("directive_recipients_by_platform", DIRECTIVE_RECIPIENTS.c.platform)
DIRECTIVE_WITHDRAWALS = sa.Table(
    "directive_withdrawals",
    METADATA,
    *_name(),
    # Its first entry held here; the first one counts, in whatever order entries are replayed.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    # The withdrawal (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
)
DIRECTIVE_RESPONSES = sa.Table(
    "directive_responses",
    METADATA,
    *_name(),
    # Who responds: the owner of the log that says so, and nobody else.
    _text("platform", is_key=True),
    # Place in that platform's log; the first one counts, in whatever order entries are replayed.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("response_time", sa.DateTime(timezone=True), nullable=False),
    # The acknowledgement or answer (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
)
# In which order this platform learnt of changes: for screens that follow them. Not a projection: logs of several
# origins have no order among each other, and this one is the order of arrival here.
INBOX_CHANGES = sa.Table(
    "inbox_changes",
    METADATA,
    # Dense and in the order of commits (see store.inbox), so that whoever reads on from a position misses nothing.
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    # 1 arrived, 2 withdrawn, 3 responded.
    sa.Column("change", sa.SmallInteger, nullable=False),
    _text("issuer"),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    _text("directive_id"),
    # Who did it.
    _text("platform"),
    info=APPEND_ONLY,
)
