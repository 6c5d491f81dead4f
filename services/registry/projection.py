"""Makes rows of journal entries: of those that lower platforms send, and of the own ones when tables are rebuilt."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from services.common.database import RawConnection
from services.journal.projection import Unprojectable
from services.registry import convert, kinds
from services.registry.kinds import Kind
from services.registry.store import TABLES, NewRow


@dataclass(frozen=True, slots=True)
class PreparedResource:
    """A resource read from an entry, before its place is known."""

    resource_type: str
    key: tuple[Any, ...]
    columns: tuple[Any, ...]
    content: bytes

    def at(self, sequence: int) -> NewRow:
        """Return the row for the entry at this place."""
        return NewRow(self.key, self.columns, sequence, self.content)


class RegistryProjection:
    """The registry's tables as a function of its journal.

    Only what has a column is checked: the owner has applied its own rules, and a platform above that parked a unit for
    its name would not see the unit at all. What this release would refuse shows as warnings on the resource. References
    are not checked either: entries of one log come in order, and what is missing may be parked.
    """

    kinds: Mapping[str, int] = MappingProxyType({kind.name: kinds.SCHEMA for kind in kinds.KINDS})

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> PreparedResource:
        """Parse one payload. Raises Unprojectable when it is no resource, or one without a usable id or times."""
        del origin, leaf
        return prepare(kinds.BY_NAME[kind], payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, PreparedResource]]) -> None:
        """Write the rows; of several entries of one resource the newest stays, in whatever order they come."""
        rows: defaultdict[str, list[NewRow]] = defaultdict(list)
        for sequence, resource in prepared:
            rows[resource.resource_type].append(resource.at(sequence))
        for resource_type, added in rows.items():
            TABLES[resource_type].upsert(connection, origin, added)


def prepare(kind: Kind[Any], payload: bytes) -> PreparedResource:
    """Read a payload of one kind. Raises Unprojectable."""
    try:
        message = kind.parse(payload)
        convert.times(message)
    except DecodeError as error:
        raise Unprojectable(f"the payload is not a {kind.name}") from error
    except ValueError as error:
        raise Unprojectable(str(error)) from error
    violations = kind.column_violations(message)
    if violations:
        raise Unprojectable("; ".join(f"{field} {description}" for field, description in violations))
    return PreparedResource(kind.resource_type, kind.key_of(message), kind.columns_of(message), payload)
