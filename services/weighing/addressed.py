"""Batches of the registry's journal that platforms above have addressed, held against what is known of their log.

The registry has checked them before it took them. They are checked once more, because figures judge by them: what a
platform above has published is judged with as it was signed there, or not at all. Writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.journal.addressed_batch import AddressedBatch
from services.journal.addressed_incoming import SignedStep, check_batch
from services.journal.addressed_proofs import continue_step, prove_entries, step_gap
from services.journal.digests import Digester
from services.journal.entries import parse
from services.journal.incoming import history_mismatch, read_log_start, verify_signature
from services.journal.store.addressed import AddressedLog

REGISTRY_STREAM: Final = "registry"
"""Whose journal it is: rule sets are published by registries."""


@dataclass(frozen=True, slots=True)
class AddressedRow:
    """An entry that a platform above has addressed: its place in that platform's registry log, and what it holds."""

    origin: str
    sequence: int
    audience: str
    kind: str
    schema: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """Where a log stands after a batch, and the entries that came with it, proven; some may be held already."""

    log: AddressedLog
    entries: list[AddressedRow]


def take(batch: AddressedBatch, log: AddressedLog | None, platform: str) -> Taken:
    """Check a batch against where its log stands, None before its first one.

    Steps up to there bring entries that were not meant for this platform before. Raises ServiceError as `check_batch`,
    and SEQUENCE_GAP, HISTORY_MISMATCH, UNKNOWN_SIGNER, INVALID_CHECKPOINT, INVALID_ARGUMENT.
    """
    steps = check_batch(batch, platform, REGISTRY_STREAM)
    if log is None:
        log = _begun(batch.origin, steps[0])
    digester = Digester(log.digest_algorithm)
    size, root = log.through_sequence, log.root
    entries: list[AddressedRow] = []
    for step in steps:
        if step.size > size:
            continue_step(digester, log, step, size, root)
            size, root = step.size, step.root
        elif step.size == size and step.root != root:
            raise history_mismatch(batch.origin, size, "another root is held here at this size")
        else:
            # Of steps behind it only the newest root is known here: that their origin signed them has to do.
            verify_signature(batch.origin, step.signed, log.verifier_key)
        entries += _rows(digester, batch.origin, step)
    return Taken(replace(log, through_sequence=size, root=root), entries)


def _begun(origin: str, first: SignedStep) -> AddressedLog:
    """Return the empty log that entry 1 begins, which comes with the first step."""
    entries: Sequence[bytes] = [one.entry for one in first.step.entries if one.sequence == 1]
    if first.step.previous_size or not entries:
        raise step_gap(origin, 0, first.step.previous_size)
    start = read_log_start(origin, REGISTRY_STREAM, entries[0])
    return AddressedLog(origin, 0, b"", start.digest_algorithm, start.verifier_key, None)


def _rows(digester: Digester, origin: str, step: SignedStep) -> list[AddressedRow]:
    rows = []
    for one in prove_entries(digester, origin, step):
        parsed = parse(one.entry)
        # Entry 1 is there for its key. Whatever else has an audience is an entry.
        if parsed is not None and one.sequence > 1:
            # A character that no text column takes: whoever wrote such a kind must not hold up those after it.
            kind = "" if "\0" in parsed.kind else parsed.kind
            rows.append(AddressedRow(origin, one.sequence, one.audience, kind, parsed.schema, parsed.payload))
    return rows
