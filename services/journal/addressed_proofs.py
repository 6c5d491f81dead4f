"""Steps of addressed entries and their proofs, held against where a log stands: for the journal that receives them, and
for whoever keeps a copy of what it received. Writes nothing.
"""

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import merkle
from services.journal.addressed_incoming import SignedStep
from services.journal.digests import Digester
from services.journal.entries import is_platform_code, parse
from services.journal.incoming import history_mismatch, verify_signature
from services.journal.store.addressed import AddressedLog, CopiedEntry, Step


def continue_step(digester: Digester, log: AddressedLog, step: SignedStep, size: int, root: bytes) -> Step:
    """Return a step that follows on from a size and root, proven and signed.

    Raises ServiceError SEQUENCE_GAP, UNKNOWN_SIGNER, HISTORY_MISMATCH.
    """
    origin, previous_size, path = log.origin, step.step.previous_size, step.step.consistency_path
    if previous_size != size:
        raise step_gap(origin, size, previous_size)
    verified = verify_signature(origin, step.signed, log.verifier_key)
    is_continued = merkle.verify_consistency(digester, size, step.size, root, step.root, path) if size else not path
    if not is_continued:
        raise history_mismatch(
            origin, step.size, f"the checkpoint at {step.size} is not proven to continue the one held at {size}"
        )
    return Step(step.size, previous_size, verified.format(), path)


def prove_entries(digester: Digester, origin: str, step: SignedStep) -> list[CopiedEntry]:
    """Return the entries of a step, each proven to be in the log and addressed to somebody.

    Raises ServiceError HISTORY_MISMATCH, and INVALID_ARGUMENT for an entry that is addressed to nobody.
    """
    copied = []
    for one in step.step.entries:
        leaf = digester.leaf(one.entry)
        if not merkle.verify_inclusion(digester, leaf, one.sequence - 1, step.size, one.inclusion_path, step.root):
            raise history_mismatch(
                origin, one.sequence, f"the entry is not proven to be in the log of the checkpoint at {step.size}"
            )
        parsed = parse(one.entry)
        audience = parsed.audience if parsed is not None and one.sequence > 1 else ""
        if one.sequence > 1 and not is_platform_code(audience):
            raise ServiceError(
                Reason.INVALID_ARGUMENT, f"entry {one.sequence} of the log of {origin} is addressed to nobody"
            )
        copied.append(CopiedEntry(one.sequence, audience, one.entry, leaf, one.inclusion_path))
    return copied


def step_gap(origin: str, expected: int, actual: int) -> ServiceError:
    """Return the refusal of a step that leaves others out."""
    return ServiceError(
        Reason.SEQUENCE_GAP,
        f"the addressed entries of {origin} go on behind size {expected} here, not behind {actual}",
        metadata={"origin": origin, "expected_sequence": str(expected)},
    )
