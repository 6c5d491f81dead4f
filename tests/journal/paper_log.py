"""A log on paper: written without a database and without services.journal.store, so that it can also lie."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.journal.entries import LOG_START_KIND, EntryBuilder
from services.journal.notes import Checkpoint, Signer, log_name, signer_name
from services.journal.receiver import IncomingBatch
from tests.journal import naive_merkle
from zhichao.journal.v1 import entry_pb2

KIND = "zhichao.test.v1.Note"
NOW = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
COUNTY, CITY, PROVINCE = "141025", "141000", "140000"
STREAM = "weighing"
HASHES = {"sha256": naive_merkle.sha256, "sm3": naive_merkle.sm3}


def signer_of(platform: str, seed: int = 0) -> Signer:
    """Return the signer of a platform; another seed is another key under the same name."""
    secret = f"{platform}/{seed}".encode().ljust(32, b".")
    return Signer(signer_name(platform), Ed25519PrivateKey.from_private_bytes(secret))


def entry_of(payload: bytes, kind: str = KIND, schema: int = 1) -> bytes:
    """Return an entry's bytes."""
    return EntryBuilder(kind, schema, NOW).build_bytes(payload)


class PaperLog:
    """Entries of one platform in memory, from entry 1 on; `batch` signs whatever it is told to."""

    def __init__(
        self,
        origin: str = COUNTY,
        *,
        stream: str = STREAM,
        algorithm: str = "sha256",
        signer: Signer | None = None,
        **start: Any,
    ) -> None:
        self.origin = origin
        self.stream = stream
        self.signer = signer or signer_of(origin)
        self._hash = HASHES.get(algorithm, naive_merkle.sha256)
        fields = {
            "origin": origin,
            "stream": stream,
            "digest_algorithm": algorithm,
            "verifier_key": self.signer.verifier_key.format(),
        }
        content = entry_pb2.LogStart(**(fields | start)).SerializeToString()
        self.entries = [entry_of(content, LOG_START_KIND)]

    @property
    def size(self) -> int:
        return len(self.entries)

    def add(self, *payloads: bytes) -> "PaperLog":
        """Write notes."""
        self.entries += [entry_of(payload) for payload in payloads]
        return self

    def add_raw(self, *entries: bytes) -> "PaperLog":
        """Write entries as they are."""
        self.entries += entries
        return self

    def add_many(self, count: int) -> "PaperLog":
        """Write numbered notes."""
        return self.add(*[f"{self.origin}/{self.size + number}".encode() for number in range(count)])

    def root(self, size: int | None = None) -> bytes:
        """Return the root at a size."""
        return naive_merkle.root_of(self.entries[:size], self._hash)

    def checkpoint(self, size: int | None = None, **lies: Any) -> str:
        """Return the signed checkpoint at a size; `name`, `signer`, `root`, `signed_size` replace what is true."""
        true_size = self.size if size is None else size
        body = Checkpoint(
            lies.get("name", log_name(self.stream, self.origin)),
            lies.get("signed_size", true_size),
            lies["root"] if "root" in lies else self.root(true_size),
        )
        signer: Signer = lies.get("signer", self.signer)
        return signer.sign(body).format()

    def batch(self, first: int = 1, last: int | None = None, **lies: Any) -> IncomingBatch:
        """Return the batch of two sequences."""
        end = self.size if last is None else last
        return IncomingBatch(
            lies.pop("origin", self.origin), first, self.entries[first - 1 : end], self.checkpoint(end, **lies)
        )

    def batches(self, *ends: int) -> list[IncomingBatch]:
        """Return the batches of the whole log that end at these sequences and at the log's end."""
        edges: Sequence[int] = sorted({0, *ends, self.size})
        return [self.batch(first + 1, last) for first, last in pairwise(edges)]
