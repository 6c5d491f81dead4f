"""Writes custody events: what was done with evidence, by whom and why, before it is done.

What the platform that sealed the evidence has to act on – holds, extensions, requests – is addressed to it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from services.common.clock import Clock
from services.common.database import RawConnection
from services.common.instants import timestamp
from services.common.request import request_context
from services.journal.entries import Place
from services.journal.entry_writer import EntryWriter
from services.video import kinds
from services.video.convert import optional_timestamp
from services.video.custody import CustodyAction, audience_of
from services.video.store import custody as custody_store
from services.video.store import damage as damage_store
from services.video.store.custody import Named
from zhichao.video.v1 import custody_pb2

SERVICE_ACTOR: Final = "service/video"
"""Who does what the service does itself (the contract)."""

ADDRESSED_ACTIONS: Final = frozenset(
    {
        CustodyAction.HOLD_PLACED,
        CustodyAction.HOLD_RELEASED,
        CustodyAction.RETENTION_EXTENDED,
        CustodyAction.REQUESTED,
    }
)
"""What goes down to the platform that sealed the evidence (the contract)."""

DAMAGED_NAMED_MAX: Final = 1_000
"""Manifests of one digest in whose custody damage is written down: the same bytes are sealed twice when a site sends
them twice, and more often only by somebody who tries."""


class CustodyWriter:
    """Writes custody events of this platform."""

    def __init__(self, entries: EntryWriter, own: str, clock: Clock) -> None:
        self._entries = entries
        self._own = own
        self._clock = clock

    def writing(self, before: Callable[[RawConnection], object] | None = None) -> AbstractContextManager[RawConnection]:
        """Open a transaction in which events are written; see EntryWriter."""
        return self._entries.writing(before)

    def write(
        self,
        connection: RawConnection,
        evidence: Named,
        action: CustodyAction,
        purpose: str,
        now: datetime,
        *,
        reference_id: str = "",
        until_time: datetime | None = None,
        actor: str | None = None,
    ) -> Place:
        """Write one event and return its place. Without `actor` the caller of this call is who did it."""
        who = request_context().principal.name if actor is None else actor
        event = custody_pb2.CustodyEvent(
            evidence_origin=evidence.name.origin,
            source_unit_id=evidence.name.source_unit_id,
            evidence_id=evidence.name.evidence_id,
            digest=evidence.digest,
            action=custody_pb2.CustodyAction.ValueType(action),
            purpose=purpose,
            actor=who,
            event_time=timestamp(now),
            reference_id=reference_id,
            until_time=optional_timestamp(until_time),
        )
        audience = audience_of(evidence.name.origin, self._own) if action in ADDRESSED_ACTIONS else ""
        (place,) = self._entries.write(
            connection, kinds.CUSTODY_KIND, event.SerializeToString(), now, (audience,), actor=who
        )
        return place

    def record(self, evidence: Named, action: CustodyAction, purpose: str) -> None:
        """Write one event of the caller in a transaction of its own; it is committed when this returns."""
        with self.writing() as connection:
            self.write(connection, evidence, action, purpose, self._clock.now())

    def found_damaged(self, digest: bytes, action: CustodyAction, how: str) -> bool:
        """Mark bytes that should be here as DAMAGED, and write that into the custody of all evidence that they are of.

        `action` is FOUND_MISSING or FOUND_CHANGED, `how` the sentence that says how it came out. False, and nothing is
        written, when they are not held here, known to be damaged already, or deleted by the word of the own log.
        """
        with self.writing() as connection:
            now = self._clock.now()
            if damage_store.mark_deleted_before(connection, digest, self._own):
                return False
            if not damage_store.mark_damaged(connection, digest, action, now):
                return False
            self.write_of_all(connection, digest, action, how, now)
        return True

    def write_of_all(
        self, connection: RawConnection, digest: bytes, action: CustodyAction, how: str, now: datetime
    ) -> None:
        """Write what the service itself did to bytes into the custody of all evidence that they are of."""
        for evidence in custody_store.read_named_by(connection, digest, DAMAGED_NAMED_MAX):
            self.write(connection, evidence, action, how, now, actor=SERVICE_ACTOR)
