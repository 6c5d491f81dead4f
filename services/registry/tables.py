"""The registry's tables. Each but one is a projection of the journal: a row holds the newest entry of one resource.

The resource itself is one column, the entry's payload as its origin wrote it: a copy from a newer platform keeps the
fields that this release does not know, and shows them after an upgrade without a replay. Beside it stand the fields
that name the resource and those that lists filter by. Dates are texts `YYYY-MM-DD` as in the contract, where empty
means open: in collation C they sort by time.

One table is none: when credentials were used last is observed by the services and not decided by anybody.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.journal import tables as journal_tables

METADATA = sa.MetaData()

journal_tables.define(METADATA)


def _text(name: str, *, is_key: bool = False) -> sa.Column[Any]:
    # Collation C: ids and codes are compared byte by byte, here, in page tokens and on every other platform.
    return sa.Column(name, sa.Text(collation="C"), primary_key=is_key, nullable=False)


def _integer(name: str, *, is_key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, primary_key=is_key, nullable=False, autoincrement=False)


def _resource_table(name: str, key: list[sa.Column[Any]], columns: list[sa.Column[Any]]) -> sa.Table:
    table = sa.Table(
        name,
        METADATA,
        # Platform that owns the resource.
        _text("origin", is_key=True),
        # What names it there.
        *key,
        # What lists filter by.
        *columns,
        # Place in the origin's log, which is also the etag: an older entry never overwrites a newer one.
        sa.Column("sequence", sa.BigInteger, nullable=False),
        # The resource (payload of the entry).
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    # Lists of all origins go by id and then origin; so does the search for an id whose owner is not named.
    sa.Index(f"{name}_by_id_key", *key, table.c.origin, unique=True)
    return table


DIVISIONS = _resource_table(
    "divisions",
    [_text("division_code", is_key=True), _text("valid_from", is_key=True)],
    [_text("parent_code"), _text("valid_until")],
)
PLATFORMS = _resource_table("platforms", [_text("platform_code", is_key=True)], [_text("upstream_code")])
SOURCE_UNITS = _resource_table(
    "source_units",
    [_text("source_unit_id", is_key=True)],
    [_text("division_code"), _integer("kind"), _integer("state")],
)
# A province holds ten thousand units; a county asks for its eighty.
sa.Index(
    "source_units_by_division",
    SOURCE_UNITS.c.division_code,
    SOURCE_UNITS.c.source_unit_id,
    SOURCE_UNITS.c.origin,
)
WEIGHING_POINTS = _resource_table(
    "weighing_points", [_text("source_unit_id", is_key=True), _text("weighing_point_id", is_key=True)], []
)
SCALES = _resource_table(
    "scales", [_text("source_unit_id", is_key=True), _text("scale_id", is_key=True)], [_text("weighing_point_id")]
)
VERIFICATION_CERTIFICATES = _resource_table(
    "verification_certificates",
    [
        _text("source_unit_id", is_key=True),
        _text("scale_id", is_key=True),
        _text("certificate_number", is_key=True),
    ],
    [_text("valid_until")],
)
RULE_SETS = _resource_table(
    "rule_sets",
    [_text("rule_set_id", is_key=True), _integer("version", is_key=True)],
    [_text("effective_from"), _text("effective_until")],
)

CREDENTIALS = sa.Table(
    "credentials",
    METADATA,
    # Platform that issued it. Those of lower platforms are copies for the audit: nothing here accepts them.
    _text("origin", is_key=True),
    _text("credential_id", is_key=True),
    # What lists filter by, and what the rules ask: who is bound where, who is an administrator. Without indexes:
    # a platform issues some thousand credentials, and each question is about one origin.
    _integer("kind"),
    _text("division_code"),
    sa.Column("source_unit_ids", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
    sa.Column("roles", postgresql.ARRAY(sa.Integer), nullable=False),
    sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoke_time", sa.DateTime(timezone=True), nullable=True),
    # Place in the origin's log, which is also the etag: an older entry never overwrites a newer one.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    # The credential with the digests of its secrets (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
)
# When the own credentials were used last. An observation of the services, some thousand a minute in a province: not a
# change that anybody made, so it is not in the journal, stays on this platform, and is lost with the database.
CREDENTIAL_USES = sa.Table(
    "credential_uses",
    METADATA,
    _text("credential_id", is_key=True),
    sa.Column("last_use_time", sa.DateTime(timezone=True), nullable=False),
)
