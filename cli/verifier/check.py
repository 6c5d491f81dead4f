"""Checks one log from its first stored byte to its last, in constant memory, and says what is wrong where."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from cli.verifier.findings import Fault, Finding, LogResult
from cli.verifier.lineage import Lineage
from cli.verifier.notes import Note, PublicKey, UnreadableNoteError
from cli.verifier.source import BrokenLogError, Chunk, Head, Source, StoredNote
from cli.verifier.tree import NODE_LEVEL_STEP, Hashes
from zhichao.journal.v1 import entry_pb2

FINDINGS_MAX: Final = 20
"""Findings kept for one log: the first says where to look, more than a screenful says nothing new."""

LOG_START_KIND: Final = "zhichao.journal.v1.LogStart"

Observe = Callable[[Sequence[int], Sequence[bytes], Sequence[bytes]], None]
"""observe(sequences, entries, digests of the entries' bytes): sees every run of entries that is checked."""


def read_log_start(entry: bytes) -> entry_pb2.LogStart | None:
    """Return what entry 1 of a log says, None when it is no such entry."""
    try:
        parsed = entry_pb2.Entry.FromString(entry)
        return entry_pb2.LogStart.FromString(parsed.payload) if parsed.kind == LOG_START_KIND else None
    except (DecodeError, ValueError):
        return None


def check_log(
    source: Source,
    head: Head,
    keys: Sequence[PublicKey],
    *,
    observe: Observe | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> LogResult:
    """Check one log of a source. `keys` are those whose cosignatures can be checked. Raises CannotLookError."""
    check = LogCheck(head, keys, observe)
    if check.is_begun:
        try:
            for chunk in source.chunks(head):
                advance(len(chunk.sequences))
                if not check.take(chunk):
                    break
        except BrokenLogError as error:
            check.note(
                Fault.UNREADABLE,
                f"the service fails at reading on after {check.position:,}: {error}",
                check.position + 1,
                head.size,
            )
            return check.finish(is_whole=False)
        return check.finish()
    return check.finish(is_whole=False)


class LogCheck:
    """The state of one check; fed with chunks in order."""

    def __init__(self, head: Head, keys: Sequence[PublicKey], observe: Observe | None = None) -> None:
        self.head = head
        self.position = 0
        self.result = LogResult(head.stream, head.origin, head.size, is_own=head.is_own)
        self._observe = observe
        self._hashes = Hashes("sha256")
        self._owner = self._begin()
        self._keys = [*keys, *([self._owner] if self._owner else [])]
        self._stored = Lineage(self._hashes)
        # Begun at the first stored digest that is not its entry's.
        self._derived: Lineage | None = None
        self._first_unlike = 0
        self._unlike_count = 0
        self._is_cut = False
        self._newest_note_size = 0
        self._forked_sizes: list[int] = []
        self._has_met_head = False

    @property
    def is_begun(self) -> bool:
        """Whether entry 1 says enough to check the rest."""
        return self._owner is not None

    def note(self, fault: Fault, detail: str, first: int = 0, last: int = 0, size: int = 0) -> None:
        """Keep a finding."""
        if len(self.result.findings) < FINDINGS_MAX:
            self.result.findings.append(Finding(fault, detail, first, max(first, last), size))

    def take(self, chunk: Chunk) -> bool:
        """Check a chunk; False when going on makes no sense."""
        place = self._contiguous(chunk)
        taken = 0
        for stored in chunk.notes:
            upto = max(0, min(stored.size - self.position, place - taken)) if not self._is_cut else 0
            self._add(chunk, taken, taken + upto)
            taken += upto
            self._check_note(stored)
        self._add(chunk, taken, place)
        return not self._is_cut

    def finish(self, *, is_whole: bool = True) -> LogResult:
        """Draw the conclusions."""
        result, head = self.result, self.head
        if is_whole and not self._is_cut and self.position < head.size:
            self.note(Fault.MISSING, "the log's head says that they are held", self.position + 1, head.size)
            self._is_cut = True
        line = self._settle_unlike()
        result.checked = self.position
        if not self._has_met_head:
            result.root = line.tree.root()
        if is_whole:
            self._conclude(line)
        return result

    # On the way

    def _begin(self) -> PublicKey | None:
        """Take algorithm and key from entry 1; None when it has none."""
        head = self.head
        start = read_log_start(head.first_entry)
        if start is None:
            if not head.first_entry and head.size:
                self.note(Fault.MISSING, "entry 1, which names the log, its digest and its key", 1)
            else:
                self.note(Fault.NOT_LOG_START, "entry 1 does not name a log, its digest and its key", 1)
            return None
        if (start.origin, start.stream) != (head.origin, head.stream):
            self.note(Fault.NOT_LOG_START, f"entry 1 begins the {start.stream} log of {start.origin}", 1)
        try:
            self._hashes = Hashes(start.digest_algorithm)
            owner = PublicKey.read(start.verifier_key)
        except ValueError as error:
            self.note(Fault.NOT_LOG_START, f"entry 1: {error}", 1)
            return None
        self.result.verifier_key, self.result.digest_algorithm = start.verifier_key, start.digest_algorithm
        for what, said, found in (
            ("key", head.verifier_key, start.verifier_key),
            ("digest algorithm", head.digest_algorithm, start.digest_algorithm),
        ):
            if said is not None and said != found:
                self.note(Fault.HEAD_CHANGED, f"the head names another {what} than entry 1", size=head.size)
        return owner

    def _contiguous(self, chunk: Chunk) -> int:
        """Return how many entries of the chunk follow on from what was checked, noting where they do not."""
        expected = self.position
        for place, sequence in enumerate(chunk.sequences):
            expected += 1
            if sequence == expected and sequence <= max(self.head.size, self._limit(chunk)):
                continue
            self._is_cut = True
            if sequence > self.head.size and sequence == expected:
                self.note(Fault.SURPLUS, "the log's head knows nothing of it", sequence, chunk.sequences[-1])
            elif sequence > expected:
                self.note(Fault.MISSING, f"after {expected - 1:,} follows {sequence:,}", expected, sequence - 1)
            else:
                self.note(Fault.SURPLUS, f"after {expected - 1:,} follows {sequence:,}", max(sequence, 1))
            return place
        return len(chunk.sequences)

    def _limit(self, chunk: Chunk) -> int:
        # Over RPC a batch may run on beyond a head that was looked at before: more was written meanwhile.
        return chunk.sequences[-1] if chunk.nodes is None else 0

    def _add(self, chunk: Chunk, start: int, end: int) -> None:
        if start >= end:
            return
        head_size = self.head.size
        if self.position < head_size < self.position + end - start:
            middle = start + head_size - self.position
            self._add(chunk, start, middle)
            self._add(chunk, middle, end)
            return
        entries = chunk.entries[start:end]
        leaf = self._hashes.leaf
        derived = [leaf(entry) for entry in entries]
        leaves = chunk.leaves[start:end] if chunk.leaves else derived
        if self._derived is None and derived != list(leaves):
            self._derived = self._stored.copy()
        if self._derived is not None:
            self._note_unlike(derived, leaves)
            self._derived.add(derived, chunk.nodes)
        self._stored.add(leaves if self._derived is not None else derived, chunk.nodes)
        if self._observe is not None:
            self._observe(chunk.sequences[start:end], entries, derived)
        self.position += end - start
        if self.position == head_size:
            self._compare_head()

    def _note_unlike(self, derived: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        for place, (mine, stored) in enumerate(zip(derived, leaves, strict=False)):
            if mine != stored:
                self._unlike_count += 1
                self._first_unlike = self._first_unlike or self.position + 1 + place

    def _compare_head(self) -> None:
        """Remember which readings lead to the head's root: a live log may run on beyond it."""
        self._has_met_head = True
        for line in (self._stored, self._derived):
            if line is not None:
                line.is_head = line.tree.root() == self.head.root
        self.result.root = (self._derived or self._stored).tree.root()

    def _check_note(self, stored: StoredNote) -> None:
        size = stored.size
        self._newest_note_size = max(self._newest_note_size, size)
        if self._is_cut and size > self.position:
            return
        try:
            note = Note.read(stored.text)
        except UnreadableNoteError as error:
            self.note(Fault.CHECKPOINT_CHANGED, f"it cannot be read: {error}", size=size)
            return
        expected_name = f"zhichao/{self.head.origin}/{self.head.stream}"
        if note.log_name != expected_name or note.size != size:
            self.note(
                Fault.CHECKPOINT_CHANGED, f"it is for {note.log_name} at {note.size}, not {expected_name}", size=size
            )
            return
        assert self._owner is not None  # noqa: S101 - nothing is fed unless it has begun
        is_signed = note.is_signed_by(self._owner)
        cosigners = note.cosigners(self._keys, self._owner)
        # A database keeps only the others' signatures of its own log: it can sign that itself whenever it is asked to.
        is_optional = self.head.is_own and self.head.peaks is not None
        is_trusted = is_signed is True or (is_signed is None and is_optional and True in cosigners.values())
        if size <= self.position:
            self._check_root(
                note, is_trusted=is_trusted, is_unsigned=is_signed is False or not (is_signed or is_optional)
            )
            self._count(note, cosigners)
        elif is_trusted:
            self.note(Fault.MISSING, "a signed checkpoint covers more than is held", self.position + 1, size)
        else:
            self.note(Fault.CHECKPOINT_CHANGED, "it is for more entries than the log has", size=size)

    def _check_root(self, note: Note, *, is_trusted: bool, is_unsigned: bool) -> None:
        lines = [self._stored] if self._derived is None else [self._stored, self._derived]
        is_same = any(line.tree.root() == note.root for line in lines)
        if is_trusted:
            for line in lines:
                line.witness(note.root)
            if not is_same:
                self._forked_sizes.append(note.size)
        elif not is_same:
            self.note(Fault.CHECKPOINT_CHANGED, "its root is another one, signed by nobody known", size=note.size)
        if is_unsigned and is_same:
            self.note(
                Fault.SIGNATURE_INVALID,
                f"not signed with the key of entry 1, {self.result.verifier_key}",
                size=note.size,
            )

    def _count(self, note: Note, cosigners: Mapping[str, bool | None]) -> None:
        self.result.checkpoint_count += 1
        known = self.result.cosigners
        for name, is_valid in cosigners.items():
            if is_valid is False:
                self.note(Fault.COSIGNATURE_INVALID, f"of {name}", size=note.size)
            if is_valid:
                self.result.cosigned_size = note.size
            known[name] = is_valid if known.get(name) is not False else False

    # At the end

    def _settle_unlike(self) -> Lineage:
        """Decide whether entries or stored digests were changed where they differ; return the reading to go on with."""
        stored, derived = self._stored, self._derived
        if derived is None:
            return stored
        is_leaf = derived.credit > stored.credit
        more = f"; so are {self._unlike_count - 1:,} more" if self._unlike_count > 1 else ""
        if is_leaf:
            self.note(
                Fault.LEAF_CHANGED,
                f"the entry's bytes agree with the root, its stored digest does not{more}",
                self._first_unlike,
            )
            return derived
        self.note(Fault.BYTES_CHANGED, f"the bytes do not have the digest stored with them{more}", self._first_unlike)
        return stored

    def _conclude(self, line: Lineage) -> None:
        """Compare with the head, and name what the witnesses say."""
        if self._has_met_head:
            self._conclude_head(line)
            self._check_rest()
        elif line.contradicted_size is not None or line.bad_nodes:
            # Cut short: what was checked before may hold the first bad entry.
            self._blame(line)
        for size in self._forked_sizes:
            if size <= line.proven_size:
                self.note(Fault.CHECKPOINT_CHANGED, "the origin's key signed another history at this size", size=size)
        for node in line.bad_nodes:
            self.note(
                Fault.NODE_CHANGED,
                f"node {node.index:,} of level {node.level}, over entries {node.first_sequence:,}-"
                f"{node.last_sequence:,}, which are right",
                size=node.last_sequence,
            )

    def _conclude_head(self, line: Lineage) -> None:
        head = self.head
        if line.contradicted_size is not None or (not line.is_head and self._is_entry_bad(line)):
            self._blame(line)
            return
        if not line.is_head:
            self.note(
                Fault.HEAD_CHANGED, "its root is another one than that of the entries, which are right", size=head.size
            )
        line.proven_size = max(line.proven_size, head.size)
        if head.peaks is not None and line.has_bad_peak(head.peaks):
            self.note(Fault.HEAD_CHANGED, "its peaks are others than those of the entries", size=head.size)

    def _blame(self, line: Lineage) -> None:
        """Name the entries that hold the first bad one; the nodes that differ do so because of them."""
        first, last = line.suspects(self.head.size, self.head.peaks if self._has_met_head else None)
        line.bad_nodes.clear()
        if first <= self._first_unlike <= last:
            # That one is named already, and alters the same nodes and roots.
            return
        text = "bytes and digest were changed together"
        if first != last:
            text = "bytes and digest of one of these were changed together; another copy tells which (--against)"
        self.note(Fault.ENTRY_CHANGED, text, first, last)

    def _is_entry_bad(self, line: Lineage) -> bool:
        """Whether anything but the head's root says that an entry is not the one that was written."""
        if line.proven_size == self.head.size:
            return False
        is_node_bad = any(node.last_sequence > line.proven_size for node in line.bad_nodes)
        peaks = self.head.peaks
        if peaks is None:
            # Nothing else is known: blame the entries rather than call them right.
            return True
        return is_node_bad or line.has_bad_peak(peaks)

    def _check_rest(self) -> None:
        head = self.head
        if head.node_count is not None:
            expected = sum(head.size >> level for level in range(NODE_LEVEL_STEP, 64, NODE_LEVEL_STEP))
            if head.node_count > expected:
                self.note(Fault.NODE_CHANGED, f"{head.node_count:,} nodes are kept, {expected:,} belong to the log")
        if head.peaks is not None and not head.is_own and self._newest_note_size < head.size:
            self.note(Fault.CHECKPOINT_CHANGED, "the checkpoint of the newest entry is not kept", size=head.size)
