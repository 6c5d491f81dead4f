"""Kinds of entries that belong to the journal itself, in whatever service: projected beside the service's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.common.database import RawConnection
from services.journal.projection import AddressedProjection, PackingProjection, Projection


class JournalKind(Protocol):
    """One kind of entry that the journal projects."""

    kind: str
    """Full message name."""
    schema: int
    """Highest schema known."""

    def prepare(self, origin: str, payload: bytes) -> Any:
        """Parse one payload into whatever `project` needs. No database. Raises Unprojectable."""

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write rows for (sequence, prepared) pairs in the receiving transaction."""


class _Own(NamedTuple):
    """What was prepared for a kind of the journal."""

    kind: JournalKind
    value: Any


class _Packed(NamedTuple):
    """A batch, taken apart."""

    own: Sequence[tuple[int, _Own]]
    theirs: Sequence[tuple[int, Any]]
    packed: Any


class WholeProjection:
    """A service's projection with the journal's kinds added; packs and tells audiences if the service's does."""

    def __init__(self, service: Projection, own: Sequence[JournalKind]) -> None:
        self._service = service
        self._own = {one.kind: one for one in own}

    @property
    def kinds(self) -> Mapping[str, int]:
        """All kinds with their highest schemas; read again each time, as the service's may be."""
        return {**self._service.kinds, **{one.kind: one.schema for one in self._own.values()}}

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Any:
        """Parse one payload. Raises Unprojectable."""
        own = self._own.get(kind)
        if own is None:
            return self._service.prepare(origin, kind, payload, leaf)
        return _Own(own, own.prepare(origin, payload))

    def prepare_addressed(self, origin: str, kind: str, payload: bytes, leaf: bytes, audience: str) -> Any:
        """Parse the payload of an entry with an audience. Raises Unprojectable."""
        if kind in self._own or not isinstance(self._service, AddressedProjection):
            return self.prepare(origin, kind, payload, leaf)
        return self._service.prepare_addressed(origin, kind, payload, leaf, audience)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write rows."""
        own, theirs = _split(prepared)
        if theirs:
            self._service.project(connection, origin, theirs)
        _project_own(connection, origin, own)

    def pack(self, origin: str, prepared: Sequence[tuple[int, Any]]) -> _Packed:
        """Make the rows of a batch ready to be sent."""
        own, theirs = _split(prepared)
        service = self._service
        packed = service.pack(origin, theirs) if theirs and isinstance(service, PackingProjection) else None
        return _Packed(own, theirs, packed)

    def project_packed(self, connection: RawConnection, origin: str, packed: Sequence[_Packed]) -> None:
        """Write the rows of batches that follow each other."""
        filled = [batch for batch in packed if batch.theirs]
        if filled and isinstance(self._service, PackingProjection):
            self._service.project_packed(connection, origin, [batch.packed for batch in filled])
        elif filled:
            self._service.project(connection, origin, [pair for batch in filled for pair in batch.theirs])
        _project_own(connection, origin, [pair for batch in packed for pair in batch.own])


def _split(prepared: Sequence[tuple[int, Any]]) -> tuple[Sequence[tuple[int, _Own]], Sequence[tuple[int, Any]]]:
    own = [pair for pair in prepared if type(pair[1]) is _Own]
    if not own:
        return own, prepared
    return own, [pair for pair in prepared if type(pair[1]) is not _Own]


def _project_own(connection: RawConnection, origin: str, own: Sequence[tuple[int, _Own]]) -> None:
    for kind in {prepared.kind.kind: prepared.kind for _, prepared in own}.values():
        pairs = [(sequence, prepared.value) for sequence, prepared in own if prepared.kind is kind]
        kind.project(connection, origin, pairs)
