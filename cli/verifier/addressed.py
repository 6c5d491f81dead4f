"""Checks what a platform holds of logs of platforms above: entries that were addressed to it, each with its proof, and
the chain of checkpoints that they hang on; and that the own log makes known what it addresses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from cli.verifier.check import FINDINGS_MAX, read_log_start
from cli.verifier.findings import Fault, Finding, LogResult
from cli.verifier.notes import Note, PublicKey, UnreadableNoteError
from cli.verifier.tree import DIGEST_BYTES, Hashes, root_of_path, roots_of_proof
from zhichao.journal.v1 import entry_pb2

_AUDIENCE_OPENING: Final = bytes([7 << 3 | 2, 6])
"""Field 7 of an entry, six bytes: entries without it have no audience, and most need not be parsed."""


@dataclass(frozen=True, slots=True)
class AddressedHead:
    """What the platform says of its copy."""

    stream: str
    origin: str
    through_sequence: int
    root: bytes
    digest_algorithm: str
    verifier_key: str
    first: "AddressedRow | None"
    """Entry 1, without the step that it came with."""


@dataclass(frozen=True, slots=True)
class AddressedRow:
    """An entry as it is stored."""

    sequence: int
    audience: str
    entry: bytes
    leaf: bytes
    inclusion_path: bytes


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step as it is stored, with its entry if that is held."""

    size: int
    previous_size: int
    note: str
    consistency_path: bytes
    entry: AddressedRow | None


def check_addressed(head: AddressedHead, steps: Iterator[StepRow], stray: Sequence[int]) -> LogResult:
    """Check a copy. `stray` are sequences of entries that belong to no step."""
    check = _Check(head)
    if check.begin():
        for step in steps:
            check.take(step)
        check.finish()
    for sequence in stray:
        check.note(Fault.SURPLUS, "it belongs to no step", sequence)
    return check.result


class _Check:
    """The state of one check; fed with steps in order."""

    def __init__(self, head: AddressedHead) -> None:
        self._head = head
        self._size = 0
        # None behind a checkpoint that proves nothing: what follows cannot be held against it.
        self._root: bytes | None = b""
        self.result = LogResult(head.stream, head.origin, head.through_sequence, is_addressed=True)

    def begin(self) -> bool:
        """Take algorithm and key from entry 1; say whether the rest can be checked."""
        head = self._head
        start = read_log_start(head.first.entry) if head.first is not None else None
        if head.first is None or start is None:
            fault = Fault.MISSING if head.first is None else Fault.NOT_LOG_START
            self.note(fault, "entry 1, which names the log, its digest and its key", 1)
            return False
        if (start.origin, start.stream) != (head.origin, head.stream):
            self.note(Fault.NOT_LOG_START, f"entry 1 begins the {start.stream} log of {start.origin}", 1)
        try:
            self._hashes = Hashes(start.digest_algorithm)
            self._owner = PublicKey.read(start.verifier_key)
        except ValueError as error:
            self.note(Fault.NOT_LOG_START, f"entry 1: {error}", 1)
            return False
        self.result.verifier_key, self.result.digest_algorithm = start.verifier_key, start.digest_algorithm
        if (head.verifier_key, head.digest_algorithm) != (start.verifier_key, start.digest_algorithm):
            self.note(Fault.HEAD_CHANGED, "the head names another key or digest than entry 1", size=self._size)
        return True

    def take(self, step: StepRow) -> None:
        """Check a step, and that it continues the one before."""
        note = self._read_note(step)
        if step.previous_size != self._size:
            self.note(Fault.MISSING, f"a step between sizes {self._size:,} and {step.previous_size:,}", size=step.size)
        elif note is not None and self._root is not None:
            if self._is_continued(step, self._root, note.root):
                self.result.checkpoint_count += 1
            else:
                self.note(Fault.PROOF_INVALID, f"not proven to continue the step at {self._size:,}", size=step.size)
        self._size, self._root = step.size, note.root if note is not None else None
        if note is None:
            return
        if step.previous_size == 0 and self._head.first is not None:
            self._check_entry(self._head.first, note)
        if step.entry is not None:
            self._check_entry(step.entry, note)

    def _read_note(self, step: StepRow) -> Note | None:
        """Return the step's checkpoint; None when it proves nothing."""
        try:
            note = Note.read(step.note)
        except UnreadableNoteError as error:
            self.note(Fault.CHECKPOINT_CHANGED, f"it cannot be read: {error}", size=step.size)
            return None
        name = f"zhichao/{self._head.origin}/{self._head.stream}"
        if (note.log_name, note.size) != (name, step.size):
            self.note(Fault.CHECKPOINT_CHANGED, f"it is for {note.log_name} at {note.size}, not {name}", size=step.size)
            return None
        if note.is_signed_by(self._owner) is not True:
            self.note(
                Fault.SIGNATURE_INVALID,
                f"not signed with the key of entry 1, {self.result.verifier_key}",
                size=step.size,
            )
        return note

    def finish(self) -> None:
        """Compare with the head."""
        self.result.root = self._root or b""
        is_root_other = self._root is not None and self._root != self._head.root
        if self._size != self._head.through_sequence or is_root_other:
            self.note(
                Fault.HEAD_CHANGED,
                f"it stands at {self._head.through_sequence:,} or another root, the newest step at {self._size:,}",
                size=self._head.through_sequence,
            )

    def _is_continued(self, step: StepRow, previous_root: bytes, root: bytes) -> bool:
        path = _digests(step.consistency_path)
        if not self._size:
            return not path
        return roots_of_proof(self._hashes, self._size, step.size, previous_root, path) == (previous_root, root)

    def _check_entry(self, row: AddressedRow, note: Note) -> None:
        self.result.checked += 1
        leaf = self._hashes.leaf(row.entry)
        if root_of_path(self._hashes, leaf, row.sequence - 1, note.size, _digests(row.inclusion_path)) != note.root:
            self.note(Fault.PROOF_INVALID, "bytes or path do not lead to the root of its step", row.sequence)
            return
        self.result.proof_count += 1
        if leaf != row.leaf:
            self.note(Fault.LEAF_CHANGED, "the entry is proven, its stored digest is not its own", row.sequence)
        if row.sequence > 1 and _audience(row.entry) != row.audience:
            self.note(Fault.ADDRESSED_CHANGED, f"it is kept as addressed to {row.audience or 'nobody'}", row.sequence)

    def note(self, fault: Fault, detail: str, sequence: int = 0, size: int = 0) -> None:
        """Keep a finding."""
        if len(self.result.findings) < FINDINGS_MAX:
            self.result.findings.append(Finding(fault, detail, sequence, sequence, size))


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """An entry of the own log that is made known to platforms below."""

    sequence: int
    audience: str
    previous_size: int | None
    """Where its step begins; None when it has none."""


class OwnAddresses:
    """Sees the entries of the own log go by and compares those with an audience with what is made known.

    An entry that is not made known is not delivered, and nobody below notices.
    """

    def __init__(self, known: Sequence[KnownPlace]) -> None:
        self._known = {place.sequence: place for place in known}
        self._previous = 0
        self.findings: list[Finding] = []

    def observe(self, sequences: Sequence[int], entries: Sequence[bytes], digests: Sequence[bytes]) -> None:
        """Look at a run of entries."""
        del digests
        for sequence, entry in zip(sequences, entries, strict=True):
            if _AUDIENCE_OPENING not in entry or not (audience := _audience(entry)):
                continue
            expected = KnownPlace(sequence, audience, self._previous)
            known = self._known.pop(sequence, None)
            if known is None:
                self._note(f"it is addressed to {audience} and not made known below", sequence)
            elif known != expected:
                self._note(
                    f"it is addressed to {audience} behind {self._previous:,} and made known otherwise", sequence
                )
            self._previous = sequence

    def finish(self, result: LogResult) -> None:
        """Add what was found to the result of the own log."""
        for sequence in sorted(self._known):
            self._note("it is made known below and addressed to nobody", sequence)
        result.findings += self.findings

    def _note(self, detail: str, sequence: int) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(Fault.ADDRESSED_CHANGED, detail, sequence, sequence))


def _audience(entry: bytes) -> str:
    try:
        return entry_pb2.Entry.FromString(entry).audience
    except (DecodeError, ValueError):
        return ""


def _digests(joined: bytes) -> list[bytes]:
    return [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]
