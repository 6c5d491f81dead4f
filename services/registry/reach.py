"""A caller's scope held against resources: which source units, and what belongs to them, one may see and change."""

from collections.abc import Sequence
from typing import Any, Final

from services.common.database import RawConnection
from services.registry import kinds, refusals, store
from services.registry.convert import AnyResource
from services.registry.kinds import Kind
from services.registry.scope import Scope
from services.registry.store import Restriction, Row
from zhichao.registry.v1 import resources_pb2 as pb

NAMED_DIVISIONS: Final = ("data_home_code", "enforcement_code")
"""Fields of a source unit that say which other divisions have to do with it."""


class Reach:
    """What one caller reaches in one transaction. Kinds that belong to no source unit are not bounded here."""

    def __init__(self, connection: RawConnection, scope: Scope) -> None:
        self._connection = connection
        self._scope = scope

    def refuse_write(self, kind: Kind[Any], message: AnyResource, before: AnyResource | None = None) -> None:
        """Refuse a resource of this platform that the caller may not write. `before` is what an update changes.

        Raises ServiceError OUTSIDE_SCOPE.
        """
        if not self._scope.is_bound or not kind.is_of_unit:
            return
        if isinstance(message, pb.SourceUnit):
            self._refuse_unit(message, before if isinstance(before, pb.SourceUnit) else None)
            return
        unit = str(getattr(message, kinds.UNIT_FIELD))
        platform = self._scope.platform
        division = store.unit_divisions(self._connection, [(platform, unit)]).get((platform, unit))
        # A unit that is not there is told when references are checked.
        if division is not None and not self._scope.holds_unit(platform, unit, division):
            raise refusals.outside_scope(f"{kind.resource_type}.{kinds.UNIT_FIELD}", unit, self._scope.described)

    def _refuse_unit(self, unit: pb.SourceUnit, before: pb.SourceUnit | None) -> None:
        scope = self._scope
        if before is not None and not scope.holds_unit(scope.platform, before.source_unit_id, before.division_code):
            raise refusals.outside_scope("source_unit.source_unit_id", unit.source_unit_id, scope.described)
        if not scope.holds_unit(scope.platform, unit.source_unit_id, unit.division_code):
            raise refusals.outside_scope("source_unit.division_code", unit.division_code, scope.described)
        for field in NAMED_DIVISIONS:
            code = getattr(unit, field)
            if before is not None and code == getattr(before, field):
                # Somebody with a wider credential has decided that.
                continue
            if code and not scope.may_name_division(code):
                raise refusals.outside_scope(f"source_unit.{field}", code, scope.described)

    def held(self, kind: Kind[Any], rows: Sequence[Row]) -> list[Row]:
        """Return those rows that the caller may see."""
        if not self._scope.is_bound or not kind.is_of_unit:
            return list(rows)
        named = [(row.origin, str(getattr(kind.parse(row.content), kinds.UNIT_FIELD))) for row in rows]
        divisions = store.unit_divisions(self._connection, named)
        return [
            row
            for row, (origin, unit) in zip(rows, named, strict=True)
            # A copy may have arrived before its unit: it lies nowhere yet.
            if self._scope.holds_unit(origin, unit, divisions.get((origin, unit), ""))
        ]

    def refuse_unheld(self, kind: Kind[Any], key: Sequence[Any], rows: Sequence[Row]) -> list[Row]:
        """Return those rows that the caller may see. Raises ServiceError OUTSIDE_SCOPE when there are only others."""
        held = self.held(kind, rows)
        if rows and not held:
            raise refusals.outside_scope(kinds.UNIT_FIELD, str(key[0]), self._scope.described)
        return held

    def restriction(self, kind: Kind[Any]) -> Restriction | None:
        """Return what narrows a list to what the caller may see; None for nothing."""
        scope = self._scope
        if not scope.is_bound or not kind.is_of_unit:
            return None
        if scope.source_unit_ids is not None:
            return Restriction(scope.platform, tuple(sorted(scope.source_unit_ids)))
        codes = store.divisions_of_units(self._connection)
        return Restriction(division_codes=tuple(code for code in codes if scope.holds_division(code)))
