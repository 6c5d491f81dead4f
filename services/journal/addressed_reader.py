"""Reads what is addressed to a platform below, or to divisions that it passes entries on to, batch by batch from where
it stands: first what it lacks behind its position, then what comes after.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.common.access.divisions import Divisions
from services.common.database import Engine, raw_connection, translate_errors
from services.journal import store
from services.journal.addressed_batch import AddressedBatch, AddressedPosition
from services.journal.addressed_sources import AddressedSource, CopiedSource, KeptProofs, OwnSource
from services.journal.addressed_steps import AddressedPlace, missing_audiences, relevant_audiences
from services.journal.incoming import history_mismatch
from services.journal.limits import ADDRESSED_BATCH_BYTES_MAX, ADDRESSED_BATCH_STEPS_MAX, ENTRY_BYTES_MAX
from services.journal.notes import Signer
from services.journal.store import addressed
from services.journal.store.addressed import Step


@dataclass(frozen=True, slots=True)
class HeldAddressed:
    """Where the addressed entries of one log stand here."""

    position: AddressedPosition
    log: addressed.AddressedLog | None
    """The row of a platform above; None for the own log."""
    parked_count: int


@dataclass(slots=True)
class Missing:
    """Entries behind the reader's position that were not meant for it before, and how far they are sent."""

    counts: dict[str, int]
    """Entries of each audience that the reader will hold then."""
    after: int = 0


@dataclass(slots=True)
class Cursor:
    """How far one reader has got in one log."""

    position: AddressedPosition
    """Where it stood at first."""
    through_sequence: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    is_checked: bool = False
    """Whether the position was found to be one of this log."""
    is_changed: bool = True
    """Whether audiences must be compared: at first, and after something was addressed or divisions were moved."""
    missing: Missing | None = None

    def __post_init__(self) -> None:
        self.through_sequence = self.position.through_sequence
        self.counts = dict(self.position.counts)


class AddressedReader:
    """Reads the addressed entries of every log held in one service's database."""

    def __init__(self, engine: Engine, own_origin: str, stream: str, signer: Signer) -> None:
        self._engine = engine
        self.own_origin = own_origin
        self.stream = stream
        self._signer = signer
        self._proofs = KeptProofs()

    @contextmanager
    def _reading(self) -> Iterator[store.Connection]:
        """One snapshot for several statements, so that steps, entries and heads belong together."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    def ends(self) -> dict[str, int]:
        """Return the newest step of every log of which anything is addressed, the own one's included, by origin."""
        with self._reading() as connection:
            ends = {log.origin: log.through_sequence for log in addressed.read_logs(connection)}
            ends[self.own_origin] = addressed.newest_step(connection, self.own_origin)
        return {origin: end for origin, end in sorted(ends.items()) if end}

    def held(self) -> list[HeldAddressed]:
        """Return where every log stands here, the own one included, ordered by origin."""
        with self._reading() as connection:
            parked = store.parked_counts(connection)
            held = [
                HeldAddressed(
                    _position(connection, log.origin, log.through_sequence, log.root), log, parked.get(log.origin, 0)
                )
                for log in addressed.read_logs(connection)
            ]
            end = addressed.newest_step(connection, self.own_origin)
            own = self._open(connection, self.own_origin) if end else None
            root = own.root_at(end) if own is not None else None
            held.append(HeldAddressed(_position(connection, self.own_origin, end, root or b""), None, 0))
        return sorted(held, key=lambda one: one.position.origin)

    def read(self, cursor: Cursor, platform: str, divisions: Divisions) -> AddressedBatch | None:
        """Return the next batch for a platform and move its cursor; None when everything held is sent.

        None also as long as the reader is ahead of a log that is only passed on here: it has moved below us and we lag.
        Raises ServiceError BEYOND_LOG when it is ahead of the own log, HISTORY_MISMATCH when it holds another history.
        """
        with self._reading() as connection:
            source = self._open(connection, cursor.position.origin)
            if source is None or not _is_continued(source, cursor):
                return None
            if cursor.is_changed:
                _compare(connection, cursor, platform, divisions)
            while cursor.missing is not None:
                if (batch := _read_missing(connection, source, cursor, cursor.missing)) is not None:
                    return batch
            return _read_on(connection, source, cursor, platform, divisions)

    def _open(self, connection: store.Connection, origin: str) -> AddressedSource | None:
        if origin == self.own_origin:
            head = store.read_head(connection, origin)
            return OwnSource(connection, head, self.stream, self._signer, self._proofs) if head is not None else None
        log = addressed.read_log(connection, origin)
        return CopiedSource(connection, log) if log is not None else None


def _position(connection: store.Connection, origin: str, through: int, root: bytes) -> AddressedPosition:
    return AddressedPosition(origin, through, root, addressed.audience_counts(connection, origin, through))


def _is_continued(source: AddressedSource, cursor: Cursor) -> bool:
    """Return whether the log goes on from where the reader stood; False while it is behind the reader."""
    position = cursor.position
    if cursor.is_checked or not position.through_sequence:
        return True
    root = source.root_at(position.through_sequence)
    if root is None:
        return False
    if root != position.root:
        raise history_mismatch(
            source.origin, position.through_sequence, "the reader holds another root at its position"
        )
    cursor.is_checked = True
    return True


def _compare(connection: store.Connection, cursor: Cursor, platform: str, divisions: Divisions) -> None:
    """Find audiences of which the reader holds fewer entries than it should.

    A division was moved below it, or we have received what was addressed before it was moved.
    """
    cursor.is_changed = False
    counts = addressed.audience_counts(connection, cursor.position.origin, cursor.through_sequence)
    relevant = relevant_audiences(divisions, platform, counts)
    missing = missing_audiences(cursor.counts, {audience: counts[audience] for audience in relevant})
    cursor.missing = Missing({audience: counts[audience] for audience in missing}) if missing else None


def _read_missing(
    connection: store.Connection, source: AddressedSource, cursor: Cursor, missing: Missing
) -> AddressedBatch | None:
    """Return entries behind the reader's position; None when all are sent."""
    origin = source.origin
    places = addressed.list_places(
        connection,
        origin,
        missing.after,
        cursor.through_sequence,
        list(missing.counts),
        ADDRESSED_BATCH_STEPS_MAX,
    )
    if not places:
        cursor.counts.update(missing.counts)
        cursor.missing = None
        return None
    steps = addressed.steps_at(connection, origin, [place.sequence for place in places])
    taken = _within_bounds([steps[place.sequence] for place in places], places)
    missing.after = taken[-1].size
    return AddressedBatch(origin, source.build(taken, {place.sequence for place in places}))


def _read_on(
    connection: store.Connection, source: AddressedSource, cursor: Cursor, platform: str, divisions: Divisions
) -> AddressedBatch | None:
    """Return the steps after the cursor; None at the end."""
    origin, after = source.origin, cursor.through_sequence
    steps = addressed.steps_after(connection, origin, after, ADDRESSED_BATCH_STEPS_MAX)
    if not steps:
        return None
    end = steps[-1].size
    audiences = relevant_audiences(divisions, platform, addressed.audiences_between(connection, origin, after, end))
    places = addressed.list_places(connection, origin, after, end, audiences, ADDRESSED_BATCH_STEPS_MAX)
    taken = _within_bounds(steps, places)
    cursor.through_sequence = taken[-1].size
    for place in places:
        if place.sequence <= cursor.through_sequence:
            cursor.counts[place.audience] = cursor.counts.get(place.audience, 0) + 1
    sequences = {place.sequence for place in places}
    # Entry 1 names the key that everything else is checked with.
    return AddressedBatch(origin, source.build(taken, sequences if after else sequences | {1}))


def _within_bounds(steps: Sequence[Step], places: Sequence[AddressedPlace]) -> list[Step]:
    """Return the first steps that fit into a batch, at least one."""
    byte_counts = {place.sequence: place.byte_count for place in places}
    taken: list[Step] = []
    byte_count = 0
    for step in steps:
        byte_count += byte_counts.get(step.size, 0)
        # One entry is left room for: entry 1, which comes in the first step.
        if taken and byte_count > ADDRESSED_BATCH_BYTES_MAX - ENTRY_BYTES_MAX:
            break
        taken.append(step)
    return taken
