"""The statements on resources; one set of them serves all kinds. Runs in the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from services.common.database import RawConnection
from services.registry.filters import Comparison, Filter
from services.registry.kinds import KINDS, Kind

_COMPARISONS: Final = {
    Comparison.EQUAL: sql.SQL("{0} = {value}"),
    Comparison.BEFORE: sql.SQL("({0} <> '' AND {0} < {value})"),
    Comparison.VALID_ON: sql.SQL("({0} <= {value} AND ({1} = '' OR {1} > {value}))"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One resource as held: its owner, the place of its newest entry, and the entry's payload."""

    origin: str
    sequence: int
    content: bytes

    @property
    def etag(self) -> str:
        """The place as an etag."""
        return f"{self.origin}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class NewRow:
    """A resource to be written, with the values of its columns in the order of the kind."""

    key: tuple[Any, ...]
    columns: tuple[Any, ...]
    sequence: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Restriction:
    """What narrows a list to what its caller may see: some units of one platform, or units in some divisions."""

    platform: str = ""
    source_unit_ids: tuple[str, ...] = ()
    division_codes: tuple[str, ...] = ()


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


class ResourceTable:
    """The statements of one kind's table."""

    def __init__(self, kind: Kind[Any]) -> None:
        self._table = sql.Identifier(kind.table)
        self._has_division = "division_code" in kind.columns
        self._key = [sql.Identifier(name) for name in kind.key]
        self._order = sql.SQL(", ").join([*self._key, sql.Identifier("origin")])
        self._upsert = self._compose_upsert(kind)

    def _compose_upsert(self, kind: Kind[Any]) -> sql.Composed:
        changed = [*kind.columns, "sequence", "content"]
        # The guard makes the row that of the newest entry, in whatever order entries are replayed.
        return sql.SQL(
            "INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {assignments}"
            " WHERE {table}.sequence < excluded.sequence"
        ).format(
            table=self._table,
            columns=_names(["origin", *kind.key, *changed]),
            values=sql.SQL(", ").join([sql.Placeholder()] * (1 + len(kind.key) + len(changed))),
            key=_names(["origin", *kind.key]),
            assignments=sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in changed
            ),
        )

    def upsert(self, connection: RawConnection, origin: str, rows: Iterable[NewRow]) -> None:
        """Write rows of one owner; a row that is newer in the table stays."""
        with connection.cursor() as cursor:
            cursor.executemany(
                self._upsert, [(origin, *row.key, *row.columns, row.sequence, row.content) for row in rows]
            )

    def read(self, connection: RawConnection, origin: str, key: Sequence[Any]) -> Row | None:
        """Return one resource."""
        where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(name) for name in self._key)
        query = sql.SQL("SELECT origin, sequence, content FROM {} WHERE origin = %s AND {}").format(self._table, where)
        row = connection.execute(query, (origin, *key)).fetchone()
        return Row(*row) if row else None

    def find(self, connection: RawConnection, key: Mapping[str, Any], origin: str = "") -> list[Row]:
        """Return the resources with these values in fields of the key, of one owner or all, ordered by id and owner."""
        wanted = dict(key) | ({"origin": origin} if origin else {})
        where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in wanted)
        query = sql.SQL("SELECT origin, sequence, content FROM {} WHERE {} ORDER BY {}").format(
            self._table, where, self._order
        )
        return [Row(*row) for row in connection.execute(query, tuple(wanted.values()))]

    def page(
        self,
        connection: RawConnection,
        filters: Sequence[Filter],
        after: Sequence[Any] | None,
        rows_max: int,
        restriction: Restriction | None = None,
    ) -> list[Row]:
        """Return the next rows in the order of id and owner that pass all filters and the restriction."""
        conditions: list[sql.Composable] = []
        values: dict[str, Any] = {"rows_max": rows_max}
        if restriction is not None:
            condition, bounds = self._restrict(restriction)
            conditions.append(condition)
            values |= bounds
        for number, one in enumerate(filters):
            columns = map(sql.Identifier, one.columns)
            name = f"filter_{number}"
            conditions.append(_COMPARISONS[one.comparison].format(*columns, value=sql.Placeholder(name)))
            values[name] = one.value
        if after is not None:
            names = [f"after_{number}" for number in range(len(after))]
            placeholders = sql.SQL(", ").join(map(sql.Placeholder, names))
            conditions.append(sql.SQL("({}) > ({})").format(self._order, placeholders))
            values.update(zip(names, after, strict=True))
        query = sql.SQL("SELECT origin, sequence, content FROM {} WHERE {} ORDER BY {} LIMIT %(rows_max)s").format(
            self._table, sql.SQL(" AND ").join(conditions or [sql.SQL("true")]), self._order
        )
        return [Row(*row) for row in connection.execute(query, values)]

    def _restrict(self, restriction: Restriction) -> tuple[sql.Composable, dict[str, Any]]:
        if restriction.platform:
            return sql.SQL("(origin = %(platform)s AND source_unit_id = ANY (%(units)s))"), {
                "platform": restriction.platform,
                "units": list(restriction.source_unit_ids),
            }
        codes = {"codes": list(restriction.division_codes)}
        if self._has_division:
            return sql.SQL("division_code = ANY (%(codes)s)"), codes
        return sql.SQL(
            "EXISTS (SELECT FROM source_units AS unit WHERE unit.origin = {0}.origin"
            " AND unit.source_unit_id = {0}.source_unit_id AND unit.division_code = ANY (%(codes)s))"
        ).format(self._table), codes


TABLES: Final[Mapping[str, ResourceTable]] = {kind.resource_type: ResourceTable(kind) for kind in KINDS}


def newest_version(connection: RawConnection, origin: str, rule_set_id: str) -> int:
    """Return the newest version of a rule set, 0 when there is none."""
    row = connection.execute(
        "SELECT max(version) FROM rule_sets WHERE origin = %s AND rule_set_id = %s", (origin, rule_set_id)
    ).fetchone()
    return (row[0] if row else None) or 0


def unregistered_divisions(connection: RawConnection, codes: Collection[str]) -> set[str]:
    """Return those codes that no platform has registered as a division, whatever their dates of validity."""
    if not codes:
        return set()
    rows = connection.execute(
        "SELECT code FROM unnest(%s::text[]) AS code"
        " WHERE NOT EXISTS (SELECT FROM divisions WHERE division_code = code)",
        (list(codes),),
    )
    return {row[0] for row in rows}


def unknown_rule_sets(connection: RawConnection, named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those pairs of owner and rule set id for which the owner has no such rule set."""
    if not named:
        return set()
    origins, ids = zip(*named, strict=True)
    rows = connection.execute(
        "SELECT owner, id FROM unnest(%s::text[], %s::text[]) AS named (owner, id)"
        " WHERE NOT EXISTS (SELECT FROM rule_sets WHERE origin = owner AND rule_set_id = id)",
        (list(origins), list(ids)),
    )
    return {(row[0], row[1]) for row in rows}


def publishers(connection: RawConnection, rule_set_ids: Collection[str]) -> dict[str, list[str]]:
    """Return which platforms have published rule sets with these ids."""
    rows = connection.execute(
        "SELECT rule_set_id, array_agg(DISTINCT origin) FROM rule_sets WHERE rule_set_id = ANY (%s)"
        " GROUP BY rule_set_id",
        (list(rule_set_ids),),
    )
    return {row[0]: row[1] for row in rows}


def unit_divisions(connection: RawConnection, owned: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return in which division source units lie, by owner and id; those that are not held are left out."""
    if not owned:
        return {}
    origins, ids = zip(*owned, strict=True)
    rows = connection.execute(
        "SELECT origin, source_unit_id, division_code FROM source_units"
        " JOIN unnest(%s::text[], %s::text[]) AS named (owner, id) ON origin = owner AND source_unit_id = id",
        (list(origins), list(ids)),
    )
    return {(row[0], row[1]): row[2] for row in rows}


def divisions_of_units(connection: RawConnection) -> list[str]:
    """Return all codes of divisions in which a source unit lies, whoever owns it."""
    return [row[0] for row in connection.execute("SELECT DISTINCT division_code FROM source_units")]


def placements(connection: RawConnection, origin: str, day: str, after_sequence: int = 0) -> dict[str, str | None]:
    """Return which division lies above each one that a platform has recorded, of those changed after a sequence.

    None for a code that is not valid on the day. Of several rows of a code that are valid, the one that began last
    counts, as when the division is read.
    """
    rows = connection.execute(
        "SELECT DISTINCT ON (division_code) division_code,"
        " CASE WHEN valid_from <= %(day)s AND (valid_until = '' OR valid_until > %(day)s) THEN parent_code END"
        " FROM divisions WHERE origin = %(origin)s AND division_code IN"
        " (SELECT division_code FROM divisions WHERE origin = %(origin)s AND sequence > %(after)s)"
        " ORDER BY division_code,"
        " valid_from <= %(day)s AND (valid_until = '' OR valid_until > %(day)s) DESC, valid_from DESC",
        {"origin": origin, "day": day, "after": after_sequence},
    )
    return {row[0]: row[1] for row in rows}


def platforms_after(connection: RawConnection, origin: str, sequence: int) -> list[bytes]:
    """Return the platforms that a platform has recorded or changed after a sequence, ordered by code."""
    rows = connection.execute(
        "SELECT content FROM platforms WHERE origin = %s AND sequence > %s ORDER BY platform_code", (origin, sequence)
    )
    return [row[0] for row in rows]
