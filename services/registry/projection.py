"""Makes rows of journal entries: of those that lower platforms send, and of the own ones when tables are rebuilt."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from services.common.database import RawConnection
from services.journal.projection import Unprojectable
from services.registry import convert, convert_access, forms, kinds
from services.registry.credentials import Credential
from services.registry.kinds import Kind
from services.registry.store import TABLES, NewRow
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import NewCredentialRow
from zhichao.access.v1 import credential_pb2


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


@dataclass(frozen=True, slots=True)
class PreparedCredential:
    """A credential read from an entry, before its place is known."""

    credential: Credential
    content: bytes

    def at(self, sequence: int) -> NewCredentialRow:
        """Return the row for the entry at this place."""
        credential = self.credential
        return NewCredentialRow(
            credential.credential_id,
            credential.kind,
            credential.division_code,
            credential.source_unit_ids,
            credential.roles,
            credential.expire_time,
            credential.revoke_time,
            sequence,
            self.content,
        )


Prepared = PreparedResource | PreparedCredential


class RegistryProjection:
    """The registry's tables as a function of its journal.

    Only what has a column is checked: the owner has applied its own rules, and a platform above that parked a unit for
    its name would not see the unit at all. What this release would refuse shows as warnings on the resource. References
    are not checked either: entries of one log come in order, and what is missing may be parked.

    Credentials of other platforms are kept for the audit and open nothing here. Rule sets come from platforms below
    and, addressed to this one, from above.
    """

    kinds: Mapping[str, int] = MappingProxyType(
        {kind.name: kinds.SCHEMA for kind in kinds.KINDS} | {convert_access.KIND: convert_access.SCHEMA}
    )

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Prepared:
        """Parse one payload. Raises Unprojectable when it is no resource, or one without a usable id or times."""
        del origin, leaf
        return prepare_credential(payload) if kind == convert_access.KIND else prepare(kinds.BY_NAME[kind], payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Prepared]]) -> None:
        """Write the rows; of several entries of one resource the newest stays, in whatever order they come."""
        rows: defaultdict[str, list[NewRow]] = defaultdict(list)
        credentials: list[NewCredentialRow] = []
        for sequence, resource in prepared:
            if isinstance(resource, PreparedCredential):
                credentials.append(resource.at(sequence))
            else:
                rows[resource.resource_type].append(resource.at(sequence))
        for resource_type, added in rows.items():
            TABLES[resource_type].upsert(connection, origin, added)
        if credentials:
            credential_store.upsert(connection, origin, credentials)


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


def prepare_credential(payload: bytes) -> PreparedCredential:
    """Read a payload of a credential. Raises Unprojectable."""
    try:
        credential = convert_access.stored(credential_pb2.Credential.FromString(payload))
    except DecodeError as error:
        raise Unprojectable(f"the payload is not a {convert_access.KIND}") from error
    except ValueError as error:
        raise Unprojectable(str(error)) from error
    checked = [
        ("credential_id", forms.credential_id(credential.credential_id)),
        ("division_code", forms.optional(forms.division_code)(credential.division_code)),
        *(("source_unit_ids", forms.identifier(source_unit_id)) for source_unit_id in credential.source_unit_ids),
    ]
    violations = [f"{field} {description}" for field, description in checked if description]
    if violations:
        raise Unprojectable("; ".join(violations))
    return PreparedCredential(credential, payload)
