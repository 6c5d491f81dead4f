"""The receiving side: handshakes, and pushes that pass through to the service that they are for."""

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal.notes import Checkpoint, Signer, log_name, signer_name
from services.relay.downstream import DownstreamLinks
from services.relay.limits import WINDOW_BATCHES_MAX
from tests.registry.harness import ManualClock
from tests.relay.conftest import CITY, COUNTY
from tests.relay.fakes import FakeJournal, accept_all, accepted
from tests.relay.platforms import WAIT_SECONDS, Platform, eventually, refusal
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

Make = Callable[..., Platform]


def greeting(platform: str = COUNTY, versions: tuple[int, ...] = (1,)) -> relay_pb2.HandshakeRequest:
    return relay_pb2.HandshakeRequest(platform=platform, protocol_versions=versions, software_version="1.2.3")


def push(first: int = 1, count: int = 1, *, stream: str = "weighing", origin: str = COUNTY) -> Any:
    batch = journal_pb2.EntryBatch(origin=origin, first_sequence=first, entries=[b"entry"] * count)
    return relay_pb2.PushEntriesRequest(stream=stream, batch=batch)


def answers(county: RelayServiceStub, requests: Iterator[Any]) -> list[relay_pb2.PushEntriesResponse]:
    return list(county.PushEntries(requests, timeout=WAIT_SECONDS))


def sizes(found: Iterable[relay_pb2.PushEntriesResponse]) -> Iterator[int]:
    """Return the positions that were answered, each as soon as it is."""
    return (answer.result.position.size for answer in found)


def has(taken: list[int], count: int) -> bool:
    return len(taken) >= count


@pytest.fixture
def county(city: Platform) -> Iterator[RelayServiceStub]:
    """Connect to the city as the county does, by its certificate."""
    with city.open_as_peer(COUNTY) as channel:
        yield RelayServiceStub(channel)


def test_a_handshake_tells_limits_streams_and_positions(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    city["weighing"].write(b"one")
    with city.open_as_peer(COUNTY) as channel:
        answer = RelayServiceStub(channel).Handshake(greeting(versions=(1, 7)))
    assert (answer.platform, answer.protocol_version) == (CITY, 1)
    assert (answer.batch_records_max, answer.batch_bytes_max, answer.window_batches_max) == (1_024, 4 * 1024 * 1024, 8)
    assert list(answer.streams) == ["registry", "weighing"]
    assert [(one.stream, one.origin, one.size, one.is_own) for one in answer.positions] == [
        ("registry", CITY, 1, True),
        ("weighing", CITY, 2, True),
    ]
    assert answer.HasField("server_time")


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (greeting(versions=()), "FAILED_PRECONDITION", Reason.INCOMPATIBLE_VERSION),
        (greeting(versions=(98, 99)), "FAILED_PRECONDITION", Reason.INCOMPATIBLE_VERSION),
    ],
)
def test_a_handshake_is_refused(
    city: Platform, county: RelayServiceStub, request_: relay_pb2.HandshakeRequest, status: str, reason: Reason
) -> None:
    found, error = refusal(lambda: county.Handshake(request_))
    assert (found, error.reason) == (status, reason)
    assert list(city.status().downstream_links) == []


def test_a_handshake_names_the_service_that_is_away(platform: Make, socket_directory: Path) -> None:
    city = platform(CITY)
    city.start()
    city["weighing"].stop()
    with city.open_as_peer(COUNTY) as channel:
        status, error = refusal(lambda: RelayServiceStub(channel).Handshake(greeting()))
    assert (status, error.reason) == ("UNAVAILABLE", Reason.SERVICE_UNAVAILABLE)
    assert error.metadata["stream"] == "weighing"
    assert "the weighing service" in error.message


def test_a_push_is_answered_in_order(county: RelayServiceStub) -> None:
    found = answers(county, iter([push(1, 3), push(4, 2), push(6)]))
    assert list(sizes(found)) == [3, 5, 6]


def test_a_push_without_a_message_ends_well(county: RelayServiceStub) -> None:
    assert answers(county, iter([])) == []


def test_a_stream_that_is_not_taken_is_refused_with_those_that_are(county: RelayServiceStub) -> None:
    status, error = refusal(lambda: answers(county, iter([push(stream="video")])))
    assert (status, error.reason) == ("INVALID_ARGUMENT", Reason.INVALID_ARGUMENT)
    assert "weighing" in error.message


@pytest.mark.parametrize(
    ("second", "field"), [(push(2, stream="registry"), "stream"), (push(2, origin="141026"), "batch.origin")]
)
def test_one_call_is_for_one_log(county: RelayServiceStub, second: Any, field: str) -> None:
    found: list[int] = []

    def call() -> None:
        found.extend(sizes(county.PushEntries(iter([push(), second]), timeout=WAIT_SECONDS)))

    status, error = refusal(call)
    assert (status, [violation.field for violation in error.field_violations]) == ("INVALID_ARGUMENT", [field])
    # What was right before it was committed, and is answered.
    assert found == [1]


def test_the_own_log_is_not_taken_from_anybody(county: RelayServiceStub) -> None:
    status, error = refusal(lambda: answers(county, iter([push(origin=CITY)])))
    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.ORIGIN_NOT_ALLOWED)


def test_refusals_of_the_service_pass_unchanged(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    # No log of the county is held: entry 9 cannot be the first.
    signed = push(9)
    signer = Signer(signer_name(COUNTY), Ed25519PrivateKey.generate())
    checkpoint = Checkpoint(log_name("weighing", COUNTY), 9, bytes(32))
    signed.batch.checkpoint = signer.sign(checkpoint).format()
    with city.open_as_peer(COUNTY) as channel:
        county = RelayServiceStub(channel)
        status, error = refusal(lambda: answers(county, iter([signed])))
        unsigned_status, unsigned = refusal(lambda: answers(county, iter([push()])))
    assert (status, error.reason, error.metadata["expected_sequence"]) == ("OUT_OF_RANGE", Reason.SEQUENCE_GAP, "1")
    assert (unsigned_status, unsigned.reason) == ("INVALID_ARGUMENT", Reason.INVALID_CHECKPOINT)


def test_a_refusal_arrives_while_the_pusher_keeps_its_side_open(county: RelayServiceStub, journal: FakeJournal) -> None:
    def refuse(requests: Iterator[Any]) -> Iterator[Any]:
        yield accepted(next(requests))
        raise ServiceError(Reason.DATABASE_UNAVAILABLE, "the disk is full", retry_after_seconds=30.0)

    journal.append = refuse
    hold = threading.Event()

    def requests() -> Iterator[Any]:
        yield push(1)
        yield push(2)
        hold.wait(WAIT_SECONDS)

    status, error = refusal(lambda: answers(county, requests()))
    hold.set()
    assert (status, error.reason, error.retry_after_seconds) == ("UNAVAILABLE", Reason.DATABASE_UNAVAILABLE, 30.0)


def test_a_service_that_is_away_is_named(county: RelayServiceStub, journal: FakeJournal) -> None:
    journal.stop()
    status, error = refusal(lambda: answers(county, iter([push()])))
    assert (status, error.reason) == ("UNAVAILABLE", Reason.SERVICE_UNAVAILABLE)
    assert error.metadata["stream"] == "weighing"
    # Where it should have been is no business of the platform below.
    assert error.message == "the weighing service of this platform does not answer"


def test_a_service_that_ends_early_is_no_success(county: RelayServiceStub, journal: FakeJournal) -> None:
    journal.append = lambda requests: iter([accepted(next(requests))])
    hold = threading.Event()

    def requests() -> Iterator[Any]:
        yield push(1)
        yield push(2)
        hold.wait(WAIT_SECONDS)

    status, error = refusal(lambda: answers(county, requests()))
    hold.set()
    assert (status, error.reason) == ("UNAVAILABLE", Reason.SHUTTING_DOWN)


def test_a_slow_service_slows_the_pusher_down(county: RelayServiceStub, journal: FakeJournal) -> None:
    taken: list[int] = []
    may_answer = threading.Event()

    def hold(requests: Iterator[Any]) -> Iterator[Any]:
        def read() -> None:
            taken.extend(request.batch.first_sequence for request in requests)

        reader = threading.Thread(target=read)
        reader.start()
        may_answer.wait(WAIT_SECONDS)
        for number in range(1, 51):
            eventually(partial(has, taken, number), f"batch {number}")
            yield journal_pb2.AppendEntriesResponse(position=journal_pb2.Position(size=number))
        reader.join(WAIT_SECONDS)

    journal.append = hold
    found: list[int] = []

    def call() -> None:
        found.extend(sizes(answers(county, iter([push(number) for number in range(1, 51)]))))

    pusher = threading.Thread(target=call)
    pusher.start()
    eventually(lambda: len(taken) == WINDOW_BATCHES_MAX, "a full window")
    assert len(taken) == WINDOW_BATCHES_MAX
    may_answer.set()
    pusher.join(WAIT_SECONDS)
    assert found == list(range(1, 51))
    assert taken == list(range(1, 51))


def test_a_pusher_that_leaves_ends_the_call_to_the_service(county: RelayServiceStub, journal: FakeJournal) -> None:
    began, ended = threading.Event(), threading.Event()

    def watch(requests: Iterator[Any]) -> Iterator[Any]:
        request_context().on_end(ended.set)
        yield accepted(next(requests))
        began.set()
        ended.wait(WAIT_SECONDS)

    journal.append = watch
    hold = threading.Event()

    def requests() -> Iterator[Any]:
        yield push()
        hold.wait(WAIT_SECONDS)

    call = county.PushEntries(requests(), timeout=WAIT_SECONDS)
    assert next(call).result.position.size == 1
    assert began.wait(WAIT_SECONDS)
    call.cancel()
    hold.set()
    assert ended.wait(WAIT_SECONDS)


def test_a_relay_that_stops_answers_what_the_service_works_on(
    city: Platform, county: RelayServiceStub, journal: FakeJournal
) -> None:
    working, may_answer = threading.Event(), threading.Event()

    def work(requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            working.set()
            may_answer.wait(WAIT_SECONDS)
            yield accepted(request)

    journal.append = work
    hold = threading.Event()
    found: list[int] = []
    ended: list[tuple[str, ServiceError]] = []

    def requests() -> Iterator[Any]:
        yield push()
        hold.wait(WAIT_SECONDS)

    def call() -> None:
        found.extend(sizes(county.PushEntries(requests(), timeout=WAIT_SECONDS)))

    pusher = threading.Thread(target=lambda: ended.append(refusal(call)))
    pusher.start()
    assert working.wait(WAIT_SECONDS)
    assert city.app.peer_server is not None
    stopping = threading.Thread(target=city.app.peer_server.stop, args=(WAIT_SECONDS,))
    stopping.start()
    may_answer.set()
    pusher.join(WAIT_SECONDS)
    stopping.join(WAIT_SECONDS)
    hold.set()
    assert found == [1]
    assert [(status, error.reason) for status, error in ended] == [("UNAVAILABLE", Reason.SHUTTING_DOWN)]


@pytest.mark.parametrize("release", ["[/]", "1.2\x1b[2J", "一", "1" * 65])
def test_a_release_that_is_none_does_not_reach_a_screen(city: Platform, county: RelayServiceStub, release: str) -> None:
    county.Handshake(relay_pb2.HandshakeRequest(platform=COUNTY, protocol_versions=[1], software_version=release))
    (link,) = city.status().downstream_links
    assert link.software_version == "?"


def test_links_from_below_are_told(city: Platform, county: RelayServiceStub, journal: FakeJournal) -> None:
    county.Handshake(greeting())
    (link,) = city.status().downstream_links
    assert (link.platform, link.software_version, link.open_push_count) == (COUNTY, "1.2.3", 0)
    assert not link.HasField("last_push_time")

    working, may_answer = threading.Event(), threading.Event()

    def work(requests: Iterator[Any]) -> Iterator[Any]:
        working.set()
        may_answer.wait(WAIT_SECONDS)
        return accept_all(requests)

    journal.append = work
    pusher = threading.Thread(target=answers, args=(county, iter([push()])))
    pusher.start()
    eventually(lambda: city.status().downstream_links[0].open_push_count == 1, "an open batch")
    may_answer.set()
    pusher.join(WAIT_SECONDS)
    (link,) = city.status().downstream_links
    assert link.open_push_count == 0
    assert link.HasField("last_push_time")


def test_the_links_that_are_remembered_are_bounded() -> None:
    links = DownstreamLinks(ManualClock(), links_max=3)
    for code in ("141021", "141022", "141023", "141021", "141024"):
        links.shook_hands(code, "1", 1)
    assert [link.platform for link in links.all()] == ["141021", "141023", "141024"]
    # Strangers are not remembered for pushing.
    links.began("141099")
    links.committed("141099")
    links.abandoned("141099", 1)
    assert len(links.all()) == 3
