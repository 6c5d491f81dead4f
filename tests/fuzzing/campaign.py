"""Fuzzes one port of a platform: first what nobody should send, by everybody; then every field with every value that
nobody should send, and random requests, until the time is over. Seeded: a case depends on the seed, its number, and
what the answers before it have taught.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError

from services.common.access.permissions import Permission
from tests.fuzzing.calls import Manner, Outcome, call
from tests.fuzzing.fair_requests import fair_requests
from tests.fuzzing.judge import GATE, complaint
from tests.fuzzing.manners import odd_manner
from tests.fuzzing.messages import changed, fair_message, field_paths, raw_contents
from tests.fuzzing.methods import UNSERVED, Rpc
from tests.fuzzing.subject import PEERS, CallerOf, Subject, Target
from tests.fuzzing.values import Pool, hostile
from tests.fuzzing.wire import is_message, replaced

THREADS: Final = 4
"""Calls at once: streams that wait for news hold up nobody, and two cores are busy."""

CORPUS_MAX: Final = 32
"""Requests that were taken, remembered for one RPC."""

LEARNED_BYTES_MAX: Final = 64 * 1024
"""Larger answers teach nothing that smaller ones do not."""

COMPLAINTS_MAX: Final = 200
ODD_SHARE: Final = 0.15
"""Of random calls, those that are made in a way that nobody should use."""
WARM_SHARE: Final = 0.35
"""What a process has grown by after this share of the time is its normal size: caches are full, threads are there."""


@dataclass(frozen=True)
class Case:
    """One call: who calls what with which messages, and where they come from."""

    rpc: Rpc
    caller: CallerOf
    contents: tuple[bytes, ...]
    origin: str
    manner: Manner

    def __str__(self) -> str:
        shown = [one.hex() if len(one) <= 300 else f"{one[:60].hex()}… {len(one)} bytes" for one in self.contents]
        return f"{self.rpc.name} by {self.caller.name}, {self.origin}, {self._shown_manner}: {shown}"

    @property
    def _shown_manner(self) -> str:
        odd = self.manner.metadata[len(self.caller.metadata) :] if not self.manner.is_odd_caller else "odd credentials"
        return f"{odd} {self.manner.compression} {self.manner.timeout_seconds} {self.manner.messages}"


@dataclass
class Report:
    """What came of it."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    callers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # RPCs whose method has seen a request, and those that have taken one.
    reached: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    swept: int = 0
    sweep_size: int = 0

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return sum(self.counts.values())

    def summary(self) -> str:
        """Return what to print: what every RPC has answered, how often."""
        lines = [f"{self.calls} calls, {self.swept} of {self.sweep_size} fields with values that nobody should send"]
        by_rpc: dict[str, list[str]] = defaultdict(list)
        for (name, status, reason), count in sorted(self.counts.items()):
            by_rpc[name].append(f"{reason or status} {count}")
        return "\n".join([*lines, *(f"  {name}: {', '.join(ends)}" for name, ends in by_rpc.items())])


class Campaign:
    """All of it for one port."""

    def __init__(self, subject: Subject, target: Target, seed: int, seconds: float) -> None:
        self.report = Report()
        self._target = target
        self._seed = seed
        self._seconds = seconds
        self._callers = subject.callers_at(target)
        self._pool: Pool = subject.pool()
        self._secrets = subject.secrets
        self._protected = {one: subject.protected(one) for one in Permission}
        self._channels = {caller.name: subject.open(target, caller) for caller in self._callers}
        fair = fair_requests()
        self._corpus: dict[str, list[bytes]] = {
            rpc.name: [fair[rpc.name]] if rpc.name in fair else [] for rpc in target.rpcs
        }
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            channel.close()

    # The stages

    def warm_up(self) -> None:
        """Send everybody's share of what nobody should send, and then random requests for a while."""
        self._run(self._first_cases(), None)
        self._run(self._endless_cases("warm"), self._seconds * WARM_SHARE)

    def run(self) -> None:
        """Go on until the time is over: every field with every value once, as far as the time goes, and random ones."""
        self._run(self._endless_cases("random"), self._seconds * (1 - WARM_SHARE))

    def _run(self, cases: Iterator[Case], seconds: float | None) -> None:
        ends_at = time.monotonic() + seconds if seconds is not None else None

        def work() -> None:
            while ends_at is None or time.monotonic() < ends_at:
                with self._guard:
                    case = next(cases, None)
                    if case is None or len(self.report.complaints) >= COMPLAINTS_MAX:
                        return
                self._make(case)

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(work) for _ in range(THREADS)]:
                done.result()

    # Cases

    def _first_cases(self) -> Iterator[Case]:
        for rpc in self._target.rpcs:
            chance = random.Random(f"{self._seed}/{rpc.name}")
            permitted = self._permitted(rpc)
            for caller in self._callers:
                for content in [*self._bases(rpc, chance)[:1], b"\xff" * 20]:
                    yield from self._case(rpc, caller, (content,), "first")
            for name, content in raw_contents(rpc.request, rpc.access.message_bytes_max, chance):
                # Everybody else is refused before anything is read.
                yield from self._case(rpc, chance.choice(permitted), (content,), name)

    def _endless_cases(self, stage: str) -> Iterator[Case]:
        sweep = self._sweep() if stage == "random" else []
        self.report.sweep_size = len(sweep)
        number = 0
        while True:
            chance = random.Random(f"{self._seed}/{self._target.name}/{stage}/{number}")
            number += 1
            if sweep and number % 2:
                self.report.swept += 1
                yield from self._swept(*sweep.pop(), chance)
                continue
            rpc = chance.choice(self._target.rpcs)
            caller = chance.choice(self._permitted(rpc) if chance.random() < 0.8 else self._callers)
            count = chance.choice((0, 1, 1, 2, 5)) if rpc.reads_stream else 1
            contents = tuple(self._content(rpc, chance) for _ in range(count))
            manner = odd_manner(caller.metadata, chance) if chance.random() < ODD_SHARE else None
            yield from self._case(rpc, caller, contents, f"{stage} {number}", manner)

    def _sweep(self) -> list[tuple[Rpc, tuple[int, ...], int]]:
        """Return every field of every RPC with the number of a value that nobody should send, in random order."""
        found = [
            (rpc, tuple(one.number for one in path), number)
            for rpc in self._target.rpcs
            for path in field_paths(rpc.request)
            for number in range(len(hostile(path[-1])))
        ]
        random.Random(self._seed).shuffle(found)
        return found

    def _swept(self, rpc: Rpc, path: tuple[int, ...], number: int, chance: random.Random) -> Iterator[Case]:
        last = rpc.request.fields_by_number[path[0]]
        for place in path[1:]:
            assert last.message_type is not None
            last = last.message_type.fields_by_number[place]
        name, pieces = hostile(last)[number]
        content = replaced(chance.choice(self._bases(rpc, chance)), path, pieces)
        caller = chance.choice(self._permitted(rpc))
        yield from self._case(rpc, caller, (content,), f"{last.full_name} with {name}")

    def _case(
        self,
        rpc: Rpc,
        caller: CallerOf,
        contents: tuple[bytes, ...],
        origin: str,
        manner: Manner | None = None,
    ) -> Iterator[Case]:
        permission = rpc.access.permission
        is_harmful = (
            rpc.is_powerful
            and permission is not None
            and permission in caller.permissions
            and any(name in content for content in contents for name in self._protected[permission])
        )
        if not is_harmful:
            yield Case(rpc, caller, contents, origin, manner or Manner(caller.metadata))

    def _bases(self, rpc: Rpc, chance: random.Random) -> list[bytes]:
        """Return requests that are fair, as far as we know."""
        return self._corpus[rpc.name] or [fair_message(rpc.request, self._pool, chance)]

    def _content(self, rpc: Rpc, chance: random.Random) -> bytes:
        if chance.random() < 0.6:
            content = chance.choice(self._bases(rpc, chance))
        else:
            content = fair_message(rpc.request, self._pool, chance)
        return content if chance.random() < 0.3 else changed(content, rpc.request, self._pool, chance)

    def _permitted(self, rpc: Rpc) -> Sequence[CallerOf]:
        found = [one for one in self._callers if self._may(one, rpc)]
        return found or self._callers

    def _may(self, caller: CallerOf, rpc: Rpc) -> bool:
        return rpc.is_open_to_all or (rpc.access.permission or Permission.IDENTITY) in caller.permissions

    # One call

    def _make(self, case: Case) -> None:
        rpc, caller = case.rpc, case.caller
        try:
            outcome = call(self._channels[caller.name], rpc, case.contents, case.manner)
        except grpc.RpcError as error:
            outcome = Outcome("UNKNOWN", f"the fuzzer failed: {error}")
        wrong = complaint(
            rpc,
            caller.permissions,
            caller.is_bound,
            list(case.contents),
            case.manner,
            outcome,
            self._secrets,
            is_served_elsewhere=self._is_served_elsewhere(rpc),
        )
        with self._guard:
            self._note(case, outcome, wrong)
        if outcome.answers:
            self._learn(rpc, outcome)

    def _note(self, case: Case, outcome: Outcome, wrong: str) -> None:
        report, name = self.report, case.rpc.name
        report.counts[name, outcome.status, outcome.reason] += 1
        report.callers[name].add(case.caller.name)
        if outcome.status == "OK" or outcome.was_left or (outcome.reason and outcome.reason not in GATE):
            report.reached.add(name)
        if outcome.status == "OK" or outcome.answers:
            report.taken.add(name)
            corpus = self._corpus[name]
            if len(corpus) < CORPUS_MAX and case.contents and case.contents[0] not in corpus:
                corpus += filter(is_message, case.contents[:1])
        if wrong:
            report.complaints.append(f"{wrong}: {case}\n    ended {outcome}")

    def _learn(self, rpc: Rpc, outcome: Outcome) -> None:
        kind = message_factory.GetMessageClass(rpc.response)
        for answer in outcome.answers[:3]:
            if len(answer) <= LEARNED_BYTES_MAX:
                try:
                    self._pool.learn(kind.FromString(answer))
                except DecodeError:
                    with self._guard:
                        self.report.complaints.append(f"an answer that is no message: {rpc.name} {answer[:100].hex()}")

    def _is_served_elsewhere(self, rpc: Rpc) -> bool:
        if rpc.name in UNSERVED:
            return True
        # Of the relay's methods each port serves its own.
        is_for_peers = rpc.method.name != "GetRelayStatus"
        return rpc.service == "zhichao.relay.v1.RelayService" and is_for_peers != (self._target.name == PEERS)
