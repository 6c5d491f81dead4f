"""The registry's first schema: the journal and one table for each kind of resource. Frozen."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from services.journal.migrations import create_v1

revision = "0001_registry"
down_revision = None


def upgrade() -> None:
    create_v1()
    _create("divisions", [_text("division_code"), _text("valid_from")], [_text("parent_code"), _text("valid_until")])
    _create("platforms", [_text("platform_code")], [_text("upstream_code")])
    _create("source_units", [_text("source_unit_id")], [_text("division_code"), _integer("kind"), _integer("state")])
    op.create_index("source_units_by_division", "source_units", ["division_code", "source_unit_id", "origin"])
    _create("weighing_points", [_text("source_unit_id"), _text("weighing_point_id")], [])
    _create("scales", [_text("source_unit_id"), _text("scale_id")], [_text("weighing_point_id")])
    _create(
        "verification_certificates",
        [_text("source_unit_id"), _text("scale_id"), _text("certificate_number")],
        [_text("valid_until")],
    )
    _create(
        "rule_sets",
        [_text("rule_set_id"), _integer("version")],
        [_text("effective_from"), _text("effective_until")],
    )


def _create(name: str, key: list[sa.Column[Any]], columns: list[sa.Column[Any]]) -> None:
    names = [column.name for column in key]
    op.create_table(
        name,
        _text("origin"),
        *key,
        *columns,
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("origin", *names),
    )
    op.create_index(f"{name}_by_id_key", name, [*names, "origin"], unique=True)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False)
