"""Whatever a platform below or above writes into its own log, under its own good signature, is shown or parked: it is a
fault of nobody, and everything that is held can be read afterwards.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor

from services.common.access.permissions import Permission
from services.enforcement.projection import EnforcementProjection
from services.journal.addressed_batch import AddressedBatch
from services.journal.addressed_convert import batch_message
from services.registry.projection import RegistryProjection
from services.video.projection import VideoProjection
from services.weighing.projection import WeighingProjection
from tests.fuzzing.calls import UNARY_SECONDS, Manner, call
from tests.fuzzing.fair_requests import CITY, COUNTY, OTHER_COUNTY
from tests.fuzzing.judge import complaint
from tests.fuzzing.messages import changed, fair_message
from tests.fuzzing.methods import Rpc
from tests.fuzzing.subject import PEERS, CallerOf, Subject, Target
from tests.fuzzing.test_every_rpc import faults
from tests.fuzzing.values import Pool
from tests.journal.paper_chain import PaperChain
from tests.journal.paper_log import PaperLog, signer_of
from zhichao.journal.v1 import access_record_pb2, addressed_pb2, entry_pb2, journal_pb2
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

pytestmark = pytest.mark.system

ENTRIES: Final = 400
"""Entries of one log: some for each kind, and a platform projects them within seconds."""

BATCH_ENTRIES: Final = 80
ADDRESSED: Final = 120
"""Addressed entries: fewer, each comes with proofs that paper makes slowly."""
STEPS_AT_ONCE: Final = 20
PAGE_SIZE: Final = 37
PROVINCE: Final = "140000"

PROJECTIONS: Final[dict[str, Any]] = {
    "registry": RegistryProjection(),
    "weighing": WeighingProjection(),
    "enforcement": EnforcementProjection(),
    "video": VideoProjection(),
}
JOURNAL_KINDS: Final = (addressed_pb2.AddressedReceipt, access_record_pb2.AccessRecord, entry_pb2.LogStart)

GOLDEN: Final = Path(__file__).resolve().parents[1] / "contract" / "golden_entries.json"


def golden_payloads() -> dict[str, list[bytes]]:
    """Return real payloads by their kind, as an earlier release wrote them."""
    found: dict[str, list[bytes]] = {}
    for row in json.loads(GOLDEN.read_text("utf-8"))["entries"]:
        entry = entry_pb2.Entry.FromString(bytes.fromhex(row["entry"]))
        found.setdefault(entry.kind, []).append(entry.payload)
    return found


def kinds_of(stream: str) -> list[str]:
    """Return the kinds of entries that a service knows, those of its journal among them."""
    return sorted({*PROJECTIONS[stream].kinds, *(kind.DESCRIPTOR.full_name for kind in JOURNAL_KINDS)})


class Forger:
    """Writes entries that look like those of a service, more or less."""

    def __init__(self, stream: str, pool: Pool, seed: int) -> None:
        self._kinds = kinds_of(stream)
        self._pool = pool
        self._chance = random.Random(f"{seed}/{stream}")
        self._golden = golden_payloads()

    def entries(self, count: int, audiences: Sequence[str] = ("",)) -> Iterator[bytes]:
        """Yield entries, each addressed to one of the audiences."""
        chance = self._chance
        for number in range(count):
            # Each kind in turn, so that none is left out.
            kind = self._kinds[number % len(self._kinds)] if chance.random() < 0.9 else chance.choice(("", "x.y.Z"))
            entry = entry_pb2.Entry(
                kind=kind,
                schema=chance.choice((1, 1, 1, 1, 1, 2, 0, 2**31 - 1)),
                actor=chance.choice(("", "person/operator", "\u202e", "x" * 300)),
                request_id=chance.choice(("", "r-1")),
                payload=self._payload(kind),
                audience=chance.choice(audiences),
            )
            entry.write_time.seconds = chance.choice((1_740_800_000, 0, 253_402_300_799))
            content = entry.SerializeToString()
            # An addressed one has to stay one, or its place in the chain is none.
            yield changed(content, entry.DESCRIPTOR, self._pool, chance) if self._is_spoiled(entry) else content

    def _is_spoiled(self, entry: entry_pb2.Entry) -> bool:
        return not entry.audience and self._chance.random() < 0.1

    def _payload(self, kind: str) -> bytes:
        chance, golden = self._chance, self._golden.get(kind)
        descriptor = _descriptor(kind)
        if descriptor is None:
            return chance.randbytes(20)
        if golden and chance.random() < 0.7:
            content = chance.choice(golden)
        else:
            content = fair_message(descriptor, self._pool, chance)
        return content if chance.random() < 0.2 else changed(content, descriptor, self._pool, chance)


def _descriptor(kind: str) -> Descriptor | None:
    try:
        return descriptor_pool.Default().FindMessageTypeByName(kind)
    except KeyError:
        return None


@pytest.mark.parametrize("stream", PROJECTIONS)
def test_whatever_a_platform_below_writes_is_shown_or_parked(subject: Subject, stream: str, fuzz_seed: int) -> None:
    target, lines_before = subject.target(stream), len(subject.log_lines())
    paper = PaperLog(COUNTY, stream=stream, signer=signer_of(COUNTY, fuzz_seed))
    audiences = ("", "", "", "", CITY, COUNTY, OTHER_COUNTY, PROVINCE, "１４１０２５", "x" * 100)
    paper.add_raw(*Forger(stream, subject.pool(), fuzz_seed).entries(ENTRIES, audiences))
    below, *_ = subject.callers_at(subject.target(PEERS))
    ends = [*range(BATCH_ENTRIES, paper.size, BATCH_ENTRIES), paper.size]
    requests = [
        relay_pb2.PushEntriesRequest(
            stream=stream,
            batch=journal_pb2.EntryBatch(
                origin=COUNTY,
                first_sequence=first + 1,
                entries=paper.entries[first:last],
                checkpoint=paper.checkpoint(last),
            ),
        )
        for first, last in zip([0, *ends], ends, strict=False)
    ]
    with subject.open(subject.target(PEERS), below) as channel:
        answers = list(RelayServiceStub(channel).PushEntries(iter(requests), timeout=UNARY_SECONDS))

    last = answers[-1].result
    assert (last.position.size, last.position.root) == (paper.size, paper.root())
    assert sum(answer.result.parked_count for answer in answers) < paper.size
    assert_all_can_be_read(subject, target)
    assert faults(subject.log_lines()[lines_before:]) == []
    assert subject.target(stream).pid == target.pid


@pytest.mark.parametrize("stream", PROJECTIONS)
def test_whatever_a_platform_above_addresses_is_shown_or_parked(subject: Subject, stream: str, fuzz_seed: int) -> None:
    target, lines_before = subject.target(stream), len(subject.log_lines())
    paper = PaperLog(PROVINCE, stream=stream, signer=signer_of(PROVINCE, fuzz_seed))
    paper.add_raw(*Forger(stream, subject.pool(), fuzz_seed).entries(ADDRESSED, (CITY, COUNTY)))
    steps = [PaperChain(paper).step(size) for size in PaperChain(paper).sizes]
    service = next(one for one in subject.callers if Permission.JOURNAL_RECEIVE in one.permissions)
    through = 0
    with subject.open(target, service) as channel:
        stub = JournalServiceStub(channel)
        for first in range(0, len(steps), STEPS_AT_ONCE):
            batch = AddressedBatch(PROVINCE, steps[first : first + STEPS_AT_ONCE])
            request = journal_pb2.AppendAddressedEntriesRequest(batch=batch_message(batch, 0))
            answer = stub.AppendAddressedEntries(request, metadata=service.metadata, timeout=UNARY_SECONDS)
            through = answer.position.through_sequence

    assert through == paper.size
    assert_all_can_be_read(subject, target)
    assert faults(subject.log_lines()[lines_before:]) == []
    assert subject.target(stream).pid == target.pid


def assert_all_can_be_read(subject: Subject, target: Target) -> None:
    """Read every list to its end as somebody who may, and replay what is parked."""
    wrong: list[str] = []
    for rpc in target.rpcs:
        if rpc.access.permission is not None and rpc.method.name.startswith(("List", "Replay")):
            callers = [one for one in subject.callers if rpc.access.permission in one.permissions and not one.is_bound]
            wrong += read_pages(subject, target, rpc, callers[0])
    assert wrong == []


def read_pages(subject: Subject, target: Target, rpc: Rpc, caller: CallerOf) -> list[str]:
    """Read a list page by page; return what is wrong with it."""
    answers = message_factory.GetMessageClass(rpc.response)
    request: Any = message_factory.GetMessageClass(rpc.request)()
    if "page_size" in rpc.request.fields_by_name:
        request.page_size = PAGE_SIZE
    with subject.open(target, caller) as channel:
        while True:
            content = request.SerializeToString()
            outcome = call(channel, rpc, [content], Manner(caller.metadata))
            wrong = complaint(
                rpc,
                caller.permissions,
                False,
                [content],
                Manner(caller.metadata),
                outcome,
                subject.secrets,
                is_served_elsewhere=False,
            )
            if wrong:
                return [f"{wrong}: {rpc.name} by {caller.name} with {request}: {outcome}"]
            if outcome.status != "OK":
                return []
            answer: Any = answers.FromString(outcome.answers[0])
            if not getattr(answer, "next_page_token", ""):
                return []
            request.page_token = answer.next_page_token
