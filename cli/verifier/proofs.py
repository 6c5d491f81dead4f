"""Checks inclusion proofs that a service answers with, for a random and repeatable choice of entries."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from cli.verifier.findings import Fault, Finding, LogResult
from cli.verifier.rpc import Proof
from cli.verifier.source import BrokenLogError
from cli.verifier.tree import Hashes, root_of_path


class Prover(Protocol):
    """Answers with inclusion proofs."""

    def prove(self, origin: str, sequence: int, size: int) -> Proof:
        """Return a proof. Raises CannotLookError, BrokenLogError."""


def choose(results: Sequence[LogResult], count: int, seed: int) -> list[tuple[int, int]]:
    """Choose entries evenly over all logs; return (place of the log in `results`, sequence), in order."""
    total = sum(result.size for result in results)
    # A seed makes the choice repeatable, which is wanted: nothing here is a secret.
    picks = sorted(random.Random(seed).sample(range(total), min(count, total)))  # noqa: S311 - a seeded sample that anyone can repeat, no secret
    chosen, place, before = [], 0, 0
    for pick in picks:
        while pick - before >= results[place].size:
            before += results[place].size
            place += 1
        chosen.append((place, pick - before + 1))
    return chosen


def check_proofs(
    prover: Prover, result: LogResult, sequences: Sequence[int], advance: Callable[[int], None] = lambda count: None
) -> None:
    """Fetch and check proofs against the root that was re-derived; add to the result. Raises CannotLookError."""
    hashes = Hashes(result.digest_algorithm)
    for sequence in sequences:
        wrong = _wrong(prover, hashes, result, sequence)
        advance(1)
        if not wrong:
            result.proof_count += 1
        else:
            result.findings.append(Finding(Fault.PROOF_INVALID, wrong, sequence, sequence))


def _wrong(prover: Prover, hashes: Hashes, result: LogResult, sequence: int) -> str:
    """Return what is wrong with the proof of one entry; empty when nothing is."""
    try:
        proof = prover.prove(result.origin, sequence, result.size)
    except BrokenLogError as error:
        return f"the service cannot prove it: {error}"
    if proof.size != result.size:
        return f"the proof is for size {proof.size:,}, not {result.size:,}"
    if hashes.leaf(proof.entry) != proof.leaf:
        return "the proof's leaf is not the digest of its entry"
    if root_of_path(hashes, proof.leaf, sequence - 1, proof.size, proof.path) != result.root:
        return "the path does not lead to the root of the entries"
    return ""
