"""Opens the journals of platforms for the verifier and has every log checked: what `verify` and `run` both do."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from cli.status_targets import Target
from cli.verifier.addressed import OwnAddresses, check_addressed
from cli.verifier.check import Observe, check_log, read_log_start
from cli.verifier.compare import compare_copies
from cli.verifier.database import DatabaseSource
from cli.verifier.findings import LogResult
from cli.verifier.notes import PublicKey, UnreadableNoteError
from cli.verifier.proofs import check_proofs, choose
from cli.verifier.rpc import RpcSource
from cli.verifier.source import CannotLookError, Head, RecoveringError, Source

Advance = Callable[[int], None]


@dataclass
class Journal:
    """The journal of one service: where its bytes are read, and where proofs are asked for if a service runs."""

    source: Source
    prover: RpcSource | None
    heads: list[Head] = field(default_factory=list)


@dataclass
class Examined:
    """What became of the logs of one platform."""

    platform: str
    label: str
    results: list[LogResult]
    addressed: list[LogResult] = field(default_factory=list)
    """What is held of logs of platforms above, where a database is read."""

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return all(result.is_right for result in [*self.results, *self.addressed])

    def find(self, stream: str, origin: str) -> LogResult | None:
        """Return the result of one log."""
        return next((one for one in self.results if (one.stream, one.origin) == (stream, origin)), None)


class PlatformJournals:
    """The journals of one platform; a context manager that closes what it opened."""

    def __init__(self, target: Target, *, is_by_rpc: bool = False) -> None:
        self.target = target
        self.platform = target.platform
        self.journals: list[Journal] = []
        self._origin = self._stream = ""
        self._stack = ExitStack()
        self._first_entries: list[bytes] = []
        for name, address in target.addresses.items():
            if name == "relay":
                continue
            channel = self._stack.enter_context(target.connect(name, "auditor"))
            rpc = RpcSource(channel, address)
            url = "" if is_by_rpc else target.database_urls.get(name, "")
            self._add(DatabaseSource(url) if url else rpc, rpc)
        for name, url in target.database_urls.items():
            if name not in target.addresses:
                self._add(DatabaseSource(url), None)

    @property
    def label(self) -> str:
        """Where the bytes come from."""
        return ", ".join(journal.source.label for journal in self.journals)

    def look(self, stream: str = "", origin: str = "") -> None:
        """Read the heads of the logs, narrowed to a stream and an origin. Raises CannotLookError."""
        if self.target.problem:
            raise CannotLookError(self.target.problem)
        self._stream, self._origin = stream, origin
        self._first_entries.clear()
        for journal in self.journals:
            found = journal.source.heads()
            self._first_entries += [head.first_entry for head in found]
            own = next((head.origin for head in found if head.is_own), "")
            if own and not (self.platform.isdecimal() and self.platform):
                self.platform = own
            journal.heads = [head for head in found if stream in ("", head.stream) and origin in ("", head.origin)]

    def verifier_keys(self) -> list[PublicKey]:
        """Return the keys of the platforms whose logs are held, from entry 1 of each."""
        found = []
        # Of all logs: the narrowed ones may be cosigned by the owner of another one.
        for entry in self._first_entries:
            start = read_log_start(entry)
            if start is not None:
                try:
                    found.append(PublicKey.read(start.verifier_key))
                except UnreadableNoteError:
                    # The check of the log says so.
                    continue
        return found

    @property
    def entry_count(self) -> int:
        """Entries to check."""
        return sum(head.size for journal in self.journals for head in journal.heads)

    def examine(
        self,
        keys: Sequence[PublicKey],
        *,
        sample: int = 0,
        seed: int = 0,
        observe: Callable[[Head], Observe | None] = lambda head: None,
        advance: Advance = lambda count: None,
    ) -> Examined:
        """Check every log that `look` found, and a sample of inclusion proofs. Raises CannotLookError."""
        results: list[LogResult] = []
        provers: list[RpcSource | None] = []
        for journal in self.journals:
            for head in journal.heads:
                results.append(_check(journal.source, head, keys, observe(head), advance))
                provers.append(journal.prover)
        # Where entries differ already, proofs lead to another root and would only say so a hundred times.
        provable = [place for place, prover in enumerate(provers) if prover is not None and results[place].is_right]
        chosen = choose([results[place] for place in provable], sample, seed)
        for number, place in enumerate(provable):
            prover = provers[place]
            sequences = [sequence for one, sequence in chosen if one == number]
            if prover is not None and sequences:
                # Whoever restored a platform verifies it first of all; its bytes are read from the database.
                with suppress(RecoveringError):
                    check_proofs(prover, results[place], sequences)
        return Examined(self.platform, self.label, results, self._examine_addressed())

    def _examine_addressed(self) -> list[LogResult]:
        results = []
        for source in (journal.source for journal in self.journals):
            if not isinstance(source, DatabaseSource):
                continue
            # Logs of one database are of one service.
            stream = next((head.stream for head in source.heads() if head.stream), "")
            for head in source.addressed_heads(stream):
                if self._stream in ("", head.stream) and self._origin in ("", head.origin):
                    strays = source.addressed_strays(head.origin)
                    results.append(check_addressed(head, source.addressed_steps(head.origin), strays))
        return results

    def compare(self, other: "PlatformJournals", examined: Examined, advance: Advance = lambda count: None) -> None:
        """Compare every log with the copy another platform holds of it; add to the results. Raises CannotLookError."""
        copies = {(head.stream, head.origin): (one, head) for one in other.journals for head in one.heads}
        for journal in self.journals:
            for head in journal.heads:
                result = examined.find(head.stream, head.origin)
                copy = copies.get((head.stream, head.origin))
                if result is None or copy is None:
                    continue
                other_journal, other_head = copy
                result.compared, finding = compare_copies(
                    journal.source, head, other_journal.source, other_head, advance
                )
                if finding is not None:
                    result.findings.append(finding)

    def _add(self, source: Source, prover: RpcSource | None) -> None:
        self._stack.callback(source.close)
        self.journals.append(Journal(source, prover))

    def __enter__(self) -> Self:
        """Return the journals."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close connections and channels."""
        self._stack.close()


def _check(
    source: Source, head: Head, keys: Sequence[PublicKey], observe: Observe | None, advance: Advance
) -> LogResult:
    """Check one log; of the own one in a database also what it makes known to platforms below."""
    places = source.own_places(head.origin) if head.is_own and isinstance(source, DatabaseSource) else None
    if places is None:
        return check_log(source, head, keys, observe=observe, advance=advance)
    own = OwnAddresses(places)

    def observe_both(sequences: Sequence[int], entries: Sequence[bytes], digests: Sequence[bytes]) -> None:
        own.observe(sequences, entries, digests)
        if observe is not None:
            observe(sequences, entries, digests)

    result = check_log(source, head, keys, observe=observe_both, advance=advance)
    own.finish(result)
    return result
