"""Three administrations, each on an address of its own, joined by mutual TLS: whoever is not who they should be, asks
for what is not theirs, or sends too much, is refused with the right status and reason, and logged once; no journal
changes.

What goes on between them while certificates are renewed is in `test_between_administrations_renewal`; two hops down
through outages in `test_downlink`, places that change in `tests/relay/test_topology`.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from cli.pki.authority import Validity
from cli.simulate.site import CITY, COUNTY, PROVINCE
from services.common.access.tokens import bearer, format_token, new_secret
from tests.system.administrations import AUDITED, HOSTS, OTHER_COUNTY, RECEIPT, Administrations, Ended, Line, ended
from tests.system.attempts import BY_TOKEN, MESSAGE_OVER_THE_LIMIT, SHORT_LIFE, Attempt, Trial
from tests.system.attempts_of_peers import BY_CERTIFICATE, CUT_OFF, greeting, push
from tests.system.joined import CALL_SECONDS, WAIT_SECONDS
from tests.system.journals import READ_SECONDS
from tests.system.reaching import Place
from tests.system.waiting import wait_until
from zhichao.enforcement.v1 import notice_pb2
from zhichao.enforcement.v1 import service_pb2 as enforcement_pb2
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub
from zhichao.journal.v1 import journal_pb2
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub
from zhichao.weighing.v1 import service_pb2
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def three() -> Iterator[Administrations]:
    directory = Path(tempfile.mkdtemp(prefix="zhichao-system-"))
    try:
        with Administrations(directory) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def trial(three: Administrations) -> Iterator[Trial]:
    with ExitStack() as stack:
        yield Trial(three, stack)


def test_each_is_on_an_address_of_its_own(three: Administrations) -> None:
    hosts = {code: process.peer_address.partition(":")[0] for code, process in three.joined.platforms.items()}

    assert hosts == HOSTS


def name_of(value: Any) -> str:
    return str(value.__name__).replace("_", " ")


@pytest.mark.parametrize("prepare", [*BY_TOKEN, *BY_CERTIFICATE], ids=name_of)
def test_it_is_refused_and_logged_once_and_nothing_changes(three: Administrations, trial: Trial, prepare: Any) -> None:
    attempt: Attempt = prepare(trial)
    three.wait_settled()
    heads = three.heads()
    failures = len(three.lines_of(attempt.platform, "authentication_failed"))
    request_id = three.new_request_id()

    outcome = ended(lambda: attempt.call((("x-request-id", request_id),)))

    assert outcome == Ended(attempt.status, attempt.reason)
    lines = wait_until(lambda: three.lines(attempt.platform, request_id), WAIT_SECONDS, "no line of it")
    assert three.written_since(heads) <= AUDITED
    assert [seen(line) for line in three.lines(attempt.platform, request_id)] == [
        {
            "event": "request_finished",
            "status": attempt.status,
            "reason": attempt.reason,
            "principal": attempt.principal,
            "certificate": attempt.certificate,
            "peer": "loopback",
        }
    ], lines
    told = three.lines_of(attempt.platform, "authentication_failed")[failures:]
    assert [line["reason"] for line in told] == [attempt.reason] * attempt.is_failure


def seen(line: Line) -> dict[str, Any]:
    """Return what a line says of who was refused and why."""
    return {name: line.get(name, "") for name in ("event", "status", "reason", "principal", "certificate", "peer")}


@pytest.mark.parametrize("certificate", CUT_OFF, ids=name_of)
def test_it_is_cut_off_in_the_handshake_and_told_once(three: Administrations, certificate: Any) -> None:
    tls = certificate(three)
    heads = three.heads()
    before = len(three.handshakes_failed(CITY))
    request_id = three.new_request_id()

    with three.peer(CITY, tls) as channel:
        stub = RelayServiceStub(channel)
        outcome = ended(
            lambda: stub.Handshake(greeting(), metadata=(("x-request-id", request_id),), timeout=CALL_SECONDS)
        )

    assert outcome == Ended("UNAVAILABLE", "")
    wait_until(lambda: len(three.handshakes_failed(CITY)) > before, WAIT_SECONDS, "no line of it")
    assert three.written_since(heads) <= AUDITED
    # gRPC says it, with the cause; who it was nobody knows, and no request has come.
    (line,) = three.handshakes_failed(CITY)[before:]
    assert "CERTIFICATE_VERIFY_FAILED" in line
    assert three.lines(CITY, request_id) == []


def test_without_a_certificate_nobody_comes_in(three: Administrations) -> None:
    heads = three.heads()
    request_id = three.new_request_id()

    with three.peer(CITY, None) as channel:
        stub = RelayServiceStub(channel)
        outcome = ended(
            lambda: stub.Handshake(greeting(), metadata=(("x-request-id", request_id),), timeout=CALL_SECONDS)
        )

    assert outcome == Ended("UNAVAILABLE", "")
    assert three.written_since(heads) <= AUDITED
    assert three.lines(CITY, request_id) == []


def test_a_message_over_the_limit_of_all_is_not_taken_in(three: Administrations, trial: Trial) -> None:
    """GRPC refuses it before any of ours is called: the call is no request yet, and has no line (docs/errors.md)."""
    token = trial.terminal("enormous")
    three.wait_settled()
    heads = three.heads()
    request_id = three.new_request_id()
    metadata = (("x-request-id", request_id), *bearer(token))
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(three.joined.county.address("weighing"), options) as channel:
        call: Any = channel.unary_unary("/zhichao.weighing.v1.WeighingService/RecordWeighing")
        outcome = ended(lambda: call(bytes(MESSAGE_OVER_THE_LIMIT), metadata=metadata, timeout=CALL_SECONDS))

    assert outcome == Ended("RESOURCE_EXHAUSTED", "")
    assert three.written_since(heads) <= AUDITED
    assert three.lines(COUNTY, request_id) == []


# What is sent again


def test_a_record_that_is_sent_again_is_recognised(three: Administrations, trial: Trial) -> None:
    token = trial.terminal("repeats")
    stub = WeighingServiceStub(trial.weighing(COUNTY))
    request = service_pb2.RecordWeighingRequest(record=trial.record())
    first = stub.RecordWeighing(request, metadata=bearer(token), timeout=CALL_SECONDS).recorded
    three.wait_settled()
    heads = three.heads()

    again = stub.RecordWeighing(request, metadata=bearer(token), timeout=CALL_SECONDS).recorded

    assert (first.is_duplicate, again.is_duplicate) == (False, True)
    assert again.receipt == first.receipt
    assert three.written_since(heads) <= AUDITED


def test_a_push_that_is_sent_again_is_recognised(three: Administrations, trial: Trial) -> None:
    county = three.joined.county
    own = trial.keep(Place(county.address("weighing"), county.data_directory).connect_as_service())
    reading = journal_pb2.ReadEntriesRequest(origin=COUNTY, first_sequence=1)
    batches = [answer.batch for answer in JournalServiceStub(own).ReadEntries(reading, timeout=READ_SECONDS)]
    heads = three.heads()
    size, _ = heads[CITY, "weighing", COUNTY]
    stub = RelayServiceStub(trial.keep(three.peer(CITY, three.certificate(COUNTY))))

    answers = list(stub.PushEntries(iter([push(batch) for batch in batches]), timeout=READ_SECONDS))

    assert [answer.result.position.size for answer in answers] == [size] * len(batches)
    assert sum(answer.result.duplicate_count for answer in answers) == size
    assert three.written_since(heads) <= AUDITED


def test_a_connection_does_not_outlive_its_certificate(three: Administrations, trial: Trial) -> None:
    """Whoever has a connection, or its session, and no certificate that holds today, is refused by the call."""
    validity = Validity.of_days(1)
    short = Validity(validity.begins_at, datetime.now(UTC) + SHORT_LIFE)
    tls = three.certificate(COUNTY, validity=short, name="short")
    stub = RelayServiceStub(trial.keep(three.peer(CITY, tls)))
    asked = relay_pb2.ReadOwnEntriesRequest(stream="weighing", first_sequence=1)

    def ask(*metadata: tuple[str, str]) -> Ended:
        return ended(lambda: list(stub.ReadOwnEntries(asked, metadata=metadata, timeout=CALL_SECONDS)))

    assert ask() == Ended("OK", "")
    heads = three.heads()
    wait_until(lambda: datetime.now(UTC) > short.ends_at, WAIT_SECONDS, "it has not ended")
    request_id = three.new_request_id()
    outcome = ask(("x-request-id", request_id))

    assert outcome == Ended("UNAUTHENTICATED", "CREDENTIAL_EXPIRED")
    assert [(line["reason"], line["certificate"]) for line in three.lines(CITY, request_id)] == [
        ("CREDENTIAL_EXPIRED", f"platform/{COUNTY}")
    ]
    assert three.written_since(heads) <= AUDITED


# What is meant for others


def test_what_is_addressed_to_the_neighbour_is_not_sent(three: Administrations, trial: Trial) -> None:
    """Who follows is said by the certificate: there is nothing in the message by which a platform could claim more."""
    city = trial.keep(three.joined.platforms[CITY].connect("enforcement"))
    heads = three.heads()
    for name, audience in (("for-the-neighbour", OTHER_COUNTY), ("for-the-county", COUNTY)):
        notice = notice_pb2.Notice(
            notice_id=name, kind=notice_pb2.NOTICE_KIND_BULLETIN, title=name, body=name, audiences=[audience]
        )
        EnforcementServiceStub(city).IssueNotice(
            enforcement_pb2.IssueNoticeRequest(notice=notice, allow_missing_platforms=True), timeout=CALL_SECONDS
        )
    stub = RelayServiceStub(trial.keep(three.peer(CITY, three.certificate(COUNTY))))
    following = stub.FollowAddressed(relay_pb2.FollowAddressedRequest(stream="enforcement"), timeout=READ_SECONDS)
    received = b""
    for answer in following:
        received += answer.SerializeToString()
        if b"for-the-county" in received:
            break
    following.cancel()

    assert b"for-the-county" in received
    assert b"for-the-neighbour" not in received
    # The county follows as well, and says so; whoever compares logs after this is not to meet its receipt.
    wait_until(lambda: RECEIPT in three.written_since(heads), WAIT_SECONDS, "the county does not say what it received")


# Again and again


def test_attempts_again_and_again_are_delayed_and_told_together(three: Administrations, trial: Trial) -> None:
    stub = JournalServiceStub(trial.weighing(PROVINCE))
    request = journal_pb2.ListPositionsRequest()
    three.wait_settled()
    heads = three.heads()
    told = len(three.lines_of(PROVINCE, "authentication_failed"))
    shown = bearer(format_token("nobody", new_secret()))

    outcomes = [ended(lambda: stub.ListPositions(request, metadata=shown, timeout=CALL_SECONDS)) for _ in range(15)]

    assert outcomes[:10] == [Ended("UNAUTHENTICATED", "INVALID_CREDENTIALS")] * 10
    assert outcomes[10:] == [Ended("RESOURCE_EXHAUSTED", "AUTHENTICATION_DELAYED")] * 5
    (together,) = wait_until(
        lambda: three.lines_of(PROVINCE, "authentication_attempts_delayed"), WAIT_SECONDS, "they are not told"
    )
    assert together["count"] == 5
    assert len(three.lines_of(PROVINCE, "authentication_failed")) == told + 10
    assert three.written_since(heads) <= AUDITED


# Last: everything above has left its lines


def test_no_log_holds_a_token_or_a_part_of_one(three: Administrations) -> None:
    logs = "".join(process.log_text() for process in three.joined.platforms.values())
    secrets = [token.rpartition(".")[2] for token in three.tokens.values()]

    assert len(secrets) > len(BY_TOKEN) // 2
    assert [secret[:8] for secret in secrets if secret in logs or secret[:16] in logs] == []


def test_nobody_met_a_fault(three: Administrations) -> None:
    for code, process in three.joined.platforms.items():
        lines = process.log_text().splitlines()
        assert [line for line in lines if '"exception":' in line or '"INTERNAL"' in line] == [], code
