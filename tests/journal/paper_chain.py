"""Addressed entries of a log on paper: their steps and proofs, made without a database, so that they can lie."""

from collections.abc import Collection

from services.journal.addressed_batch import AddressedBatch, BatchStep, ProvenEntry
from services.journal.entries import EntryBuilder
from tests.journal.naive_merkle import NaiveTree, leaf
from tests.journal.paper_log import HASHES, KIND, NOW, PaperLog
from zhichao.journal.v1 import entry_pb2


def addressed_entry(audience: str, payload: bytes, kind: str = KIND, schema: int = 1) -> bytes:
    """Return an entry's bytes."""
    return EntryBuilder(kind, schema, NOW, audience=audience).build_bytes(payload)


class PaperChain:
    """The chain of steps of a paper log."""

    def __init__(self, paper: PaperLog) -> None:
        self.paper = paper
        start = entry_pb2.LogStart.FromString(entry_pb2.Entry.FromString(paper.entries[0]).payload)
        self._hash = HASHES[start.digest_algorithm]

    @property
    def sizes(self) -> list[int]:
        """Where steps end: at entries with an audience."""
        return [
            sequence
            for sequence, entry in enumerate(self.paper.entries, 1)
            if entry_pb2.Entry.FromString(entry).audience
        ]

    def address(self, audience: str, *payloads: bytes) -> "PaperChain":
        """Write addressed notes."""
        self.paper.add_raw(*[addressed_entry(audience, payload) for payload in payloads])
        return self

    def batch(self, after: int = 0, *, without: Collection[int] = ()) -> AddressedBatch:
        """Return the steps behind a size, with all their entries but some."""
        return AddressedBatch(self.paper.origin, [self.step(size, without) for size in self.sizes if size > after])

    def step(self, size: int, without: Collection[int] = ()) -> BatchStep:
        """Return the step that ends at a size; a lie where no addressed entry is."""
        previous = max((one for one in self.sizes if one < size), default=0)
        tree = NaiveTree([leaf(entry, self._hash) for entry in self.paper.entries[:size]], self._hash)
        places = ([] if previous else [1]) + [size]
        return BatchStep(
            previous,
            self.paper.checkpoint(size),
            tree.proof(previous) if previous else [],
            [
                ProvenEntry(place, self.paper.entries[place - 1], tree.path(place - 1))
                for place in places
                if place not in without
            ],
        )
