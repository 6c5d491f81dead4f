"""What must hold of every log, whoever wrote and received it, checked without the code under test."""

from itertools import pairwise

from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.journal.notes import SignedCheckpoint, VerifierKey, log_name
from services.journal.reader import Batch
from tests.journal import naive_merkle
from tests.journal.journals import Journal


class KnownLog:
    """The true entries of one log; roots are remembered."""

    def __init__(self, origin: str, stream: str, key: VerifierKey, entries: list[bytes]) -> None:
        self.origin = origin
        self.name = log_name(stream, origin)
        self.key = key
        self.entries = entries
        self._tree = naive_merkle.NaiveTree([naive_merkle.leaf(entry) for entry in entries])

    def root(self, size: int) -> bytes:
        return self._tree.root(size)

    def check_note(self, note: str, size: int) -> SignedCheckpoint:
        """Check that a note is the origin's true checkpoint at a size."""
        signed = SignedCheckpoint.parse(note)
        checkpoint = signed.checkpoint
        assert (checkpoint.log_name, checkpoint.size, checkpoint.root) == (self.name, size, self.root(size))
        assert signed.is_signed_by(self.key)
        return signed

    def check_batch(self, batch: Batch, first: int) -> None:
        """Check that a batch is a true run of entries from `first` to a checkpoint, within bounds."""
        assert (batch.origin, batch.first_sequence) == (self.origin, first)
        assert 1 <= len(batch.entries) <= BATCH_RECORDS_MAX
        assert sum(map(len, batch.entries)) <= BATCH_BYTES_MAX
        assert batch.entries == self.entries[first - 1 : batch.last_sequence]
        assert batch.leaves == [naive_merkle.leaf(entry) for entry in batch.entries]
        self.check_note(batch.checkpoint, batch.last_sequence)


def known_log(owner: Journal) -> KnownLog:
    """Return what is true of a platform's own log."""
    return KnownLog(owner.platform, owner.stream, owner.signer.verifier_key, owner.entries(owner.platform))


def check_kept_checkpoints(journal: Journal, known: KnownLog) -> None:
    """Check that the checkpoints kept of a copy are true, leave an end for every position, and are not kept in vain."""
    rows = journal.query(
        "SELECT size, total_bytes, note FROM journal_checkpoints WHERE origin = %s ORDER BY size", known.origin
    )
    size = journal.size(known.origin)
    assert rows[-1][0] == size, "the newest checkpoint is at the log's end"
    for kept_size, total_bytes, note in rows:
        known.check_note(note, kept_size)
        assert total_bytes == sum(map(len, known.entries[:kept_size]))
    kept = [(0, 0), *((row[0], row[1]) for row in rows)]
    for (one, one_bytes), (next_one, next_bytes) in pairwise(kept):
        assert next_one - one <= BATCH_RECORDS_MAX, "no batch between two kept checkpoints is too long"
        assert next_bytes - one_bytes <= BATCH_BYTES_MAX, "no batch between two kept checkpoints has too many bytes"
    for (one, one_bytes), (_, _), (third, third_bytes) in zip(kept, kept[1:], kept[2:], strict=False):
        is_far = third - one > BATCH_RECORDS_MAX or third_bytes - one_bytes > BATCH_BYTES_MAX
        assert is_far, "a checkpoint between two that are one batch apart is thinned out"


def check_reading(journal: Journal, known: KnownLog, first: int, records_max: int = BATCH_RECORDS_MAX) -> None:
    """Check that reading from a position gives true batches up to the log's end."""
    size = journal.size(known.origin)
    for batch in journal.batches(known.origin, first, records_max):
        known.check_batch(batch, first)
        first = batch.last_sequence + 1
    assert first == size + 1
