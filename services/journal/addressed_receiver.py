"""Receives what platforms above have addressed to this platform or to those below it: checks that it continues what is
held and is proven by its origin's log, projects, acknowledges in the own log and commits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import projection, store
from services.journal.addressed_batch import AddressedBatch
from services.journal.addressed_incoming import SignedStep, check_batch
from services.journal.addressed_proofs import continue_step, prove_entries, step_gap
from services.journal.digests import Digester
from services.journal.entries import EntryBuilder
from services.journal.incoming import history_mismatch, read_log_start
from services.journal.limits import ADDRESSED_ORIGINS_MAX
from services.journal.log_writer import LogWriter
from services.journal.notes import SignedCheckpoint
from services.journal.projection import Parked, Projection, ProjectionFailed
from services.journal.receipts import RECEIPT_KIND, RECEIPT_SCHEMA, Receipt
from services.journal.replay import project_singly
from services.journal.store import addressed, receipts
from services.journal.store.addressed import AddressedLog, CopiedEntry, Step

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReceivedAddressed:
    """What a committed batch led to."""

    log: AddressedLog
    duplicate_count: int
    parked_count: int
    """Entries of the batch that are parked."""
    log_parked_count: int
    """Entries of the log that are parked."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What is new in a batch, proven."""

    through_sequence: int
    root: bytes
    steps: list[Step]
    entries: list[CopiedEntry]
    duplicate_count: int


class AddressedReceiver:
    """Appends addressed entries. One instance serves all origins; batches of one origin queue on its row."""

    def __init__(
        self,
        engine: Engine,
        writer: LogWriter,
        tables: Projection,
        clock: Clock,
        announce: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._projection = tables
        self._clock = clock
        self._announce = announce

    def receive(self, batch: AddressedBatch) -> ReceivedAddressed:
        """Append one batch, with its receipt in the own log, in one transaction.

        Raises ServiceError as `check_batch`, and SEQUENCE_GAP, HISTORY_MISMATCH, UNKNOWN_SIGNER, ORIGIN_NOT_ALLOWED for
        a log that is held in full or one too many, and DATABASE_UNAVAILABLE; then nothing of the batch is left, or all
        of it when the connection was lost with the answer to the commit. Sent again it is recognised.
        """
        steps = check_batch(batch, self._writer.origin, self._writer.stream)
        try:
            with translate_errors():
                try:
                    received = self._append(batch.origin, steps, is_careful=False)
                except ProjectionFailed:
                    received = self._append(batch.origin, steps, is_careful=True)
        except ServiceError as error:
            if error.reason in (Reason.HISTORY_MISMATCH, Reason.UNKNOWN_SIGNER):
                _log.error("addressed_entries_refused", origin=batch.origin, reason=str(error.reason))
            raise
        self._announce(addressed.ADDRESSED)
        self._announce(self._writer.origin)
        if received.parked_count:
            _log.warning("entries_parked", origin=batch.origin, stream=self._writer.stream, count=received.parked_count)
        return received

    def _append(self, origin: str, steps: Sequence[SignedStep], *, is_careful: bool) -> ReceivedAddressed:
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            log = self._locked_log(connection, origin, steps[0])
            checked = self._check(connection, log, steps)
            now = self._clock.now()
            # Entry 1 is there for its key.
            added = [one for one in checked.entries if one.sequence > 1]
            log = replace(
                log,
                through_sequence=checked.through_sequence,
                root=checked.root,
                last_receive_time=now if added else log.last_receive_time,
            )
            addressed.insert_steps(connection, origin, checked.steps)
            addressed.insert_entries(connection, origin, checked.entries)
            parked = self._project(connection, origin, added, is_careful=is_careful)
            if parked:
                store.insert_parked(connection, origin, parked)
            addressed.store_log(connection, log)
            if added:
                self._acknowledge(connection, log, [one.sequence for one in added], now)
            return ReceivedAddressed(
                log, checked.duplicate_count, len(parked), store.parked_counts(connection).get(origin, 0)
            )

    def _locked_log(self, connection: store.Connection, origin: str, first: SignedStep) -> AddressedLog:
        """Return the log's head, held; begin the log with entry 1 when it is new."""
        log = addressed.lock_log(connection, origin)
        if log is not None:
            return log
        entries = first.step.entries
        if first.step.previous_size or not entries or entries[0].sequence != 1:
            raise step_gap(origin, 0, first.step.previous_size)
        if store.read_head(connection, origin) is not None:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"the log of {origin} is held here in full, as one of a platform below; it addresses nothing to us",
                metadata={"origin": origin},
            )
        if len(addressed.read_logs(connection)) >= ADDRESSED_ORIGINS_MAX:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"entries of {ADDRESSED_ORIGINS_MAX} platforms above are held here; those of {origin} are not begun",
                metadata={"origin": origin, "limit": str(ADDRESSED_ORIGINS_MAX)},
            )
        start = read_log_start(origin, self._writer.stream, entries[0].entry)
        addressed.create_log(connection, origin, start.digest_algorithm, start.verifier_key)
        log = addressed.lock_log(connection, origin)
        if log is None:
            raise LookupError(f"the log of {origin} that was just begun is not there")
        return log

    def _check(self, connection: store.Connection, log: AddressedLog, steps: Sequence[SignedStep]) -> _Checked:
        """Return what is new. Raises ServiceError for what does not follow from the log held."""
        digester = Digester(log.digest_algorithm)
        held_steps = addressed.steps_at(connection, log.origin, [step.size for step in steps])
        sequences = [one.sequence for step in steps for one in step.step.entries]
        held_leaves = addressed.held_leaves(connection, log.origin, sequences)
        size, root = log.through_sequence, log.root
        new_steps: list[Step] = []
        new_entries: list[CopiedEntry] = []
        duplicates = 0
        for step in steps:
            if step.size <= log.through_sequence:
                _check_held(log.origin, step, held_steps.get(step.size))
            else:
                new_steps.append(continue_step(digester, log, step, size, root))
                size, root = step.size, step.root
            for entry in prove_entries(digester, log.origin, step):
                held = held_leaves.get(entry.sequence)
                if held is None:
                    new_entries.append(entry)
                    held_leaves[entry.sequence] = entry.leaf
                elif held == entry.leaf:
                    duplicates += entry.sequence > 1
                else:
                    raise history_mismatch(log.origin, entry.sequence, "other bytes are held at this place")
        return _Checked(size, root, new_steps, new_entries, duplicates)

    def _project(
        self, connection: store.Connection, origin: str, added: Sequence[CopiedEntry], *, is_careful: bool
    ) -> list[Parked]:
        """Make rows of entries that are inserted; return those that stay without."""
        parked: list[Parked] = []
        prepared: list[tuple[int, Any]] = []
        for one in added:
            outcome = projection.prepare(self._projection, origin, one.sequence, one.entry, one.leaf)
            if isinstance(outcome, Parked):
                parked.append(outcome)
            elif outcome is not None:
                prepared.append(outcome)
        if is_careful:
            parked += project_singly(self._projection, connection, origin, prepared)
        elif prepared:
            projection.project(self._projection, connection, origin, prepared)
        return parked

    def _acknowledge(
        self, connection: store.Connection, log: AddressedLog, sequences: Sequence[int], now: datetime
    ) -> None:
        """Write the receipt into the own log. Last in the transaction: others wait for the own log's row."""
        receipt = Receipt(log.origin, log.through_sequence, tuple(sequences), now)
        head = self._writer.lock(connection)
        builder = EntryBuilder(RECEIPT_KIND, RECEIPT_SCHEMA, now, request_id=request_context().request_id)
        (place,) = self._writer.append(
            connection, head, [builder.build(receipt.to_payload(), self._writer.digester)], now
        )
        receipts.insert(connection, self._writer.origin, log.origin, sequences, place.sequence, now)


def _check_held(origin: str, step: SignedStep, held: Step | None) -> None:
    """Refuse a step up to our position that is not the one held."""
    if held is None:
        raise history_mismatch(origin, step.size, "the steps received have no checkpoint at this size")
    if SignedCheckpoint.parse(held.note).checkpoint != step.signed.checkpoint:
        raise history_mismatch(origin, step.size, "another root was signed at this size")
    if held.previous_size != step.step.previous_size:
        raise history_mismatch(origin, step.size, "the step before it is another one")
