"""Batches of addressed entries as they arrive: what can be checked of them without knowing what is held. Pure."""

from dataclasses import dataclass
from itertools import pairwise

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.addressed_batch import AddressedBatch, BatchStep
from services.journal.digests import DIGEST_BYTES
from services.journal.entries import is_platform_code
from services.journal.incoming import invalid_checkpoint
from services.journal.limits import (
    ADDRESSED_BATCH_BYTES_MAX,
    ADDRESSED_BATCH_STEPS_MAX,
    ENTRY_BYTES_MAX,
    PROOF_NODES_MAX,
)
from services.journal.notes import NoteError, SignedCheckpoint, log_name


@dataclass(frozen=True, slots=True)
class SignedStep:
    """A step whose checkpoint is of the right log and size; what it proves is not checked."""

    step: BatchStep
    signed: SignedCheckpoint

    @property
    def size(self) -> int:
        """Size of the log at its checkpoint."""
        return self.signed.checkpoint.size

    @property
    def root(self) -> bytes:
        """Root of the log at its checkpoint."""
        return self.signed.checkpoint.root


def check_batch(batch: AddressedBatch, own_origin: str, stream: str) -> list[SignedStep]:
    """Return the steps of a batch that some state of the log could accept.

    Raises ServiceError ORIGIN_NOT_ALLOWED for a log of this platform, INVALID_ARGUMENT, BATCH_TOO_LARGE,
    ENTRY_TOO_LARGE, or INVALID_CHECKPOINT.
    """
    if batch.origin == own_origin:
        raise ServiceError(
            Reason.ORIGIN_NOT_ALLOWED,
            f"{batch.origin} is this platform itself; what it addresses is written here and nowhere else",
            metadata={"origin": batch.origin},
        )
    if not is_platform_code(batch.origin):
        raise ServiceError(Reason.INVALID_ARGUMENT, f"origin {batch.origin[:32]!r} is not a six-digit platform code")
    if not 1 <= len(batch.steps) <= ADDRESSED_BATCH_STEPS_MAX:
        raise _too_many("a batch has 1 to", ADDRESSED_BATCH_STEPS_MAX, len(batch.steps), "steps")
    byte_count = sum(_check_step(step) for step in batch.steps)
    if byte_count > ADDRESSED_BATCH_BYTES_MAX:
        raise _too_large("a batch", ADDRESSED_BATCH_BYTES_MAX, byte_count)
    signed = [_read_checkpoint(batch.origin, stream, step) for step in batch.steps]
    for one, following in pairwise(signed):
        if one.size >= following.size:
            raise invalid_checkpoint(batch.origin, f"the step at {following.size} comes after the one at {one.size}")
    return signed


def _check_step(step: BatchStep) -> int:
    """Return how many bytes of entries a step has."""
    largest = max((len(one.entry) for one in step.entries), default=0)
    if largest > ENTRY_BYTES_MAX:
        raise _too_large("an entry", ENTRY_BYTES_MAX, largest)
    for path in (step.consistency_path, *(one.inclusion_path for one in step.entries)):
        if len(path) > PROOF_NODES_MAX or any(len(node) != DIGEST_BYTES for node in path):
            raise ServiceError(
                Reason.INVALID_ARGUMENT,
                f"a proof has up to {PROOF_NODES_MAX} digests of {DIGEST_BYTES} bytes each; this one has another form",
            )
    return sum(len(one.entry) for one in step.entries)


def _read_checkpoint(origin: str, stream: str, step: BatchStep) -> SignedStep:
    try:
        signed = SignedCheckpoint.parse(step.checkpoint)
    except NoteError as error:
        raise invalid_checkpoint(origin, str(error)) from error
    checkpoint = signed.checkpoint
    expected_name = log_name(stream, origin)
    if checkpoint.log_name != expected_name:
        raise invalid_checkpoint(origin, f"it is for {checkpoint.log_name[:64]!r}, not {expected_name!r}")
    if not 0 <= step.previous_size < checkpoint.size:
        raise invalid_checkpoint(origin, f"it is at {checkpoint.size}, not beyond the step before it")
    sequences = [one.sequence for one in step.entries]
    # Entry 1 comes before the addressed entry of the first step.
    if sequences not in ([], [checkpoint.size]) and (
        step.previous_size or sequences not in ([1], [1, checkpoint.size])
    ):
        raise invalid_checkpoint(origin, f"the step at {checkpoint.size} comes with other entries than its own")
    return SignedStep(step, signed)


def _too_many(what: str, limit: int, actual: int, nouns: str) -> ServiceError:
    return ServiceError(
        Reason.BATCH_TOO_LARGE,
        f"{what} {limit} {nouns}, this one has {actual}",
        metadata={"limit": str(limit), "actual": str(actual)},
    )


def _too_large(what: str, limit: int, actual: int) -> ServiceError:
    return ServiceError(
        Reason.ENTRY_TOO_LARGE,
        f"{actual} bytes are more than the {limit} allowed for {what}",
        metadata={"limit": str(limit), "actual": str(actual)},
    )
