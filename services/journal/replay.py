"""Projects entries one by one: a received batch of which some cannot be projected, and parked entries once more."""

from collections.abc import Iterable
from typing import Any

from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import projection, store
from services.journal.entries import parse
from services.journal.limits import PAGE_SIZE_MAX
from services.journal.projection import Parked, Projection, ProjectionFailed
from services.journal.store import addressed


def project_singly(
    tables: Projection, connection: store.Connection, origin: str, prepared: Iterable[tuple[int, Any]]
) -> list[Parked]:
    """Project entries that are inserted, each on its own, and return those that failed."""
    parked: list[Parked] = []
    for sequence, value in prepared:
        try:
            with connection.transaction():
                projection.project(tables, connection, origin, [(sequence, value)])
        except ProjectionFailed as error:
            entry, _ = store.read_held(connection, origin, sequence)
            parsed = parse(entry)
            kind = parsed.kind if parsed else ""
            parked.append(Parked(sequence, kind, projection.ParkCause.PROJECTION_FAILED, error.detail))
    return parked


def replay_parked(engine: Engine, tables: Projection, origin: str | None) -> tuple[int, int]:
    """Project parked entries again in order, one transaction each.

    Return how many are projected and how many stay. Raises ServiceError(SHUTTING_DOWN) when the call ends before; what
    was projected by then stays projected.
    """
    request = request_context()
    projected = stayed = 0
    after = ("", 0)
    while True:
        with translate_errors(), engine.begin() as pooled:
            places = store.parked_places(raw_connection(pooled), origin, after, PAGE_SIZE_MAX)
        for place in places:
            if not request.is_active():
                raise ServiceError(Reason.SHUTTING_DOWN, "the replay was interrupted: call again for the rest")
            with translate_errors(), engine.begin() as pooled:
                is_projected = _replay(tables, raw_connection(pooled), *place)
            projected += is_projected is True
            stayed += is_projected is False
        if len(places) < PAGE_SIZE_MAX:
            return projected, stayed
        after = places[-1]


def _replay(tables: Projection, connection: store.Connection, origin: str, sequence: int) -> bool | None:
    """Return whether the entry is projected now; None when another replay has done it meanwhile.

    The log's row is locked, so a replay meets neither a receiving batch nor another replay.
    """
    if store.lock_head(connection, origin) is None:
        addressed.lock_log(connection, origin)
    if not store.is_parked(connection, origin, sequence):
        return None
    entry, leaf = store.read_held(connection, origin, sequence)
    outcome = projection.prepare(tables, origin, sequence, entry, leaf)
    if isinstance(outcome, Parked):
        parked = [outcome]
    else:
        parked = project_singly(tables, connection, origin, [outcome] if outcome is not None else [])
    if parked:
        store.insert_parked(connection, origin, parked)
        return False
    store.delete_parked(connection, origin, sequence)
    return True
