"""What people and terminals try that they may not, at three administrations; each attempt with how it has to end."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc

from cli.simulate.site import CITY, COUNTY
from services.common.access.tokens import bearer, format_token, new_secret
from services.common.rpc_limits import MESSAGE_BYTES_MAX
from tests.registry import access_examples
from tests.system.administrations import OTHER_COUNTY, Administrations, Metadata, ended
from tests.system.joined import CALL_SECONDS, WAIT_SECONDS
from tests.system.waiting import wait_until
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.enforcement.v1 import notice_pb2
from zhichao.enforcement.v1 import service_pb2 as enforcement_pb2
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub
from zhichao.journal.v1 import journal_pb2
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub
from zhichao.weighing.v1 import record_pb2
from zhichao.weighing.v1 import service_pb2 as weighing_pb2
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

SHORT_LIFE: Final = timedelta(seconds=3)
"""Of a credential that a test outlives."""

RECORDS_MAX: Final = 1_000
RECORD_MESSAGE_BYTES_MAX: Final = 64 * 1024

NOBODY: Final = ""


@dataclass(frozen=True)
class Attempt:
    """One call at a platform, how it has to end, and whom its line has to name.

    `is_failure` is one that counts as a failed attempt to show who calls, which a line of its own tells besides.
    """

    platform: str
    call: Callable[[Metadata], Any]
    status: str
    reason: str
    principal: str = NOBODY
    certificate: str = ""
    is_failure: bool = False


class Trial:
    """Where an attempt is prepared: what it opens is closed after it."""

    def __init__(self, three: Administrations, stack: ExitStack) -> None:
        self.three = three
        self._stack = stack

    def weighing(self, platform: str) -> grpc.Channel:
        """Open a connection to a weighing service."""
        return self._stack.enter_context(self.three.channel(platform, "weighing"))

    def keep(self, channel: grpc.Channel) -> grpc.Channel:
        """Close a connection after the attempt."""
        return self._stack.enter_context(channel)

    def record(self, unit: str = "") -> record_pb2.WeighingRecord:
        """Return a record of a unit that nobody has sent; of the first unit unless told."""
        unit = unit or self.three.units[0]
        return next(one for one in self.three.joined.take(1_000) if one.source_unit_id == unit)

    def terminal(self, credential_id: str, **fields: Any) -> str:
        """Issue the token of a terminal of the first unit, and wait until the county's weighing service takes it."""
        token = self.three.terminal(self.three.units[0], credential_id, **fields)
        self.wait_known(COUNTY, token)
        return token

    def wait_known(self, platform: str, token: str, service: str = "weighing") -> None:
        """Wait until a service of a platform takes a token."""
        self.three.wait_known(self._who_asks(platform, service), token)

    def wait_refused(self, platform: str, token: str, service: str = "weighing") -> None:
        """Wait until a service of a platform takes a token no more."""
        ask = self._who_asks(platform, service)
        wait_until(
            lambda: ended(lambda: ask(bearer(token))).status == "UNAUTHENTICATED", WAIT_SECONDS, "the token is taken"
        )

    def recording(self, token: str, status: str, reason: str, *, unit: str = "", **who: Any) -> Attempt:
        """Return the attempt to record a truck with a token."""
        stub = WeighingServiceStub(self.weighing(COUNTY))
        request = weighing_pb2.RecordWeighingRequest(record=self.record(unit))
        shown = bearer(token) if token else ()
        return Attempt(
            COUNTY,
            lambda metadata: stub.RecordWeighing(request, metadata=(*metadata, *shown), timeout=CALL_SECONDS),
            status,
            reason,
            **who,
        )

    def _who_asks(self, platform: str, service: str) -> Callable[[Metadata], Any]:
        channel = self.keep(self.three.channel(platform, service))
        if service == "relay":
            status = relay_pb2.GetRelayStatusRequest()
            links = RelayServiceStub(channel)
            return lambda metadata: links.GetRelayStatus(status, metadata=metadata, timeout=CALL_SECONDS)
        # Terminals and people may ask where logs stand.
        stub = JournalServiceStub(channel)
        request = journal_pb2.ListPositionsRequest()
        return lambda metadata: stub.ListPositions(request, metadata=metadata, timeout=CALL_SECONDS)


# Who calls?


def no_token(trial: Trial) -> Attempt:
    return trial.recording("", "UNAUTHENTICATED", "NO_CREDENTIALS", is_failure=True)


def a_malformed_token(trial: Trial) -> Attempt:
    return trial.recording("zhichao.a.b.c.d", "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


def a_made_up_token(trial: Trial) -> Attempt:
    token = trial.three.tokens["made up"] = format_token("nobody", new_secret())
    return trial.recording(token, "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


def another_secret_of_a_credential(trial: Trial) -> Attempt:
    trial.terminal("guessed-at")
    token = trial.three.tokens["guessed"] = format_token("guessed-at", new_secret())
    return trial.recording(token, "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


def a_token_of_another_platform(trial: Trial) -> Attempt:
    token = trial.three.person(CITY, CITY, "DATA_STEWARD", "steward-of-the-city")
    trial.wait_known(CITY, token)
    return trial.recording(token, "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


def a_revoked_token(trial: Trial) -> Attempt:
    token = trial.terminal("revoked")
    trial.three.revoke(COUNTY, "revoked")
    trial.wait_refused(COUNTY, token)
    return trial.recording(token, "UNAUTHENTICATED", "CREDENTIAL_REVOKED", is_failure=True)


def an_expired_token(trial: Trial) -> Attempt:
    credential = access_examples.terminal(trial.three.units[0], credential_id="expired")
    token = trial.three.issue(COUNTY, credential, lives=SHORT_LIFE)
    trial.wait_known(COUNTY, token)
    trial.wait_refused(COUNTY, token)
    return trial.recording(token, "UNAUTHENTICATED", "CREDENTIAL_EXPIRED", is_failure=True)


def a_rotated_secret_without_overlap(trial: Trial) -> Attempt:
    token = trial.terminal("rotated")
    with trial.three.joined.platforms[COUNTY].connect("registry", "security") as channel:
        request: Any = access_pb2.RotateCredentialRequest(credential_id="rotated")
        request.overlap.seconds = 0
        trial.three.tokens["rotated anew"] = str(
            AccessServiceStub(channel).RotateCredential(request, timeout=CALL_SECONDS).token
        )
    trial.wait_refused(COUNTY, token)
    # It is not kept: nobody can tell it from one that was made up.
    return trial.recording(token, "UNAUTHENTICATED", "INVALID_CREDENTIALS", is_failure=True)


# May they?


def a_record_of_another_unit(trial: Trial) -> Attempt:
    token = trial.terminal("of-one-unit")
    return trial.recording(
        token, "PERMISSION_DENIED", "OUTSIDE_SCOPE", unit=trial.three.units[1], principal="terminal/of-one-unit"
    )


def _listing(trial: Trial, platform: str, token: str, principal: str, wanted: weighing_pb2.WeighingFilter) -> Attempt:
    stub = WeighingServiceStub(trial.weighing(platform))
    request = weighing_pb2.ListWeighingsRequest(filter=wanted)
    return Attempt(
        platform,
        lambda metadata: stub.ListWeighings(request, metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS),
        "PERMISSION_DENIED",
        "OUTSIDE_SCOPE",
        principal,
    )


def weighings_of_another_unit(trial: Trial) -> Attempt:
    token = trial.terminal("reads-another-unit")
    wanted = weighing_pb2.WeighingFilter(source_unit_id=trial.three.units[1])
    return _listing(trial, COUNTY, token, "terminal/reads-another-unit", wanted)


def weighings_of_another_division(trial: Trial) -> Attempt:
    token = trial.three.person(CITY, OTHER_COUNTY, "VIEWER", "viewer-of-the-neighbour")
    trial.wait_known(CITY, token)
    wanted = weighing_pb2.WeighingFilter(origin=COUNTY)
    return _listing(trial, CITY, token, "person/viewer-of-the-neighbour", wanted)


def addressed_entries_of_another_county(trial: Trial) -> Attempt:
    token = trial.three.person(CITY, OTHER_COUNTY, "AUDITOR", "auditor-of-the-neighbour")
    trial.wait_known(CITY, token)
    stub = JournalServiceStub(trial.weighing(CITY))
    request = journal_pb2.ReadAddressedEntriesRequest(platform=COUNTY)

    def call(metadata: Metadata) -> Any:
        return list(stub.ReadAddressedEntries(request, metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS))

    return Attempt(CITY, call, "PERMISSION_DENIED", "OUTSIDE_SCOPE", "person/auditor-of-the-neighbour")


def a_notice_to_those_above(trial: Trial) -> Attempt:
    stub = EnforcementServiceStub(trial.keep(trial.three.joined.platforms[COUNTY].connect("enforcement")))
    notice = notice_pb2.Notice(
        notice_id="upwards", kind=notice_pb2.NOTICE_KIND_INSTRUCTION, title="上行", body="上行", audiences=[CITY]
    )
    request = enforcement_pb2.IssueNoticeRequest(notice=notice)
    return Attempt(
        COUNTY,
        lambda metadata: stub.IssueNotice(request, metadata=metadata, timeout=CALL_SECONDS),
        "PERMISSION_DENIED",
        "OUTSIDE_SCOPE",
        trial.three.operator(COUNTY),
    )


def a_credential_by_somebody_else_than_the_security_administrator(trial: Trial) -> Attempt:
    stub = AccessServiceStub(trial.keep(trial.three.joined.platforms[COUNTY].connect("registry")))
    credential = access_examples.person(COUNTY, "AUDITOR", credential_id="helped-myself")
    request = access_pb2.CreateCredentialRequest(credential=credential)
    return Attempt(
        COUNTY,
        lambda metadata: stub.CreateCredential(request, metadata=metadata, timeout=CALL_SECONDS),
        "PERMISSION_DENIED",
        "PERMISSION_MISSING",
        trial.three.operator(COUNTY),
    )


# Too much


def a_record_that_is_too_long(trial: Trial) -> Attempt:
    token = trial.terminal("long-record")
    stub = WeighingServiceStub(trial.weighing(COUNTY))
    record = trial.record()
    record.goods = "x" * RECORD_MESSAGE_BYTES_MAX
    request = weighing_pb2.RecordWeighingRequest(record=record)
    return Attempt(
        COUNTY,
        lambda metadata: stub.RecordWeighing(request, metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS),
        "INVALID_ARGUMENT",
        "MESSAGE_TOO_LARGE",
        "terminal/long-record",
    )


def _batch(trial: Trial, credential_id: str, records: list[record_pb2.WeighingRecord], reason: str) -> Attempt:
    token = trial.terminal(credential_id)
    stub = WeighingServiceStub(trial.weighing(COUNTY))
    request = weighing_pb2.RecordWeighingsRequest(records=records)
    return Attempt(
        COUNTY,
        lambda metadata: stub.RecordWeighings(request, metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS),
        "INVALID_ARGUMENT",
        reason,
        f"terminal/{credential_id}",
    )


def a_record_too_many(trial: Trial) -> Attempt:
    return _batch(trial, "many-records", [trial.record()] * (RECORDS_MAX + 1), "BATCH_TOO_LARGE")


def bytes_that_are_no_message(trial: Trial) -> Attempt:
    token = trial.terminal("no-message")
    call: Any = trial.weighing(COUNTY).unary_unary("/zhichao.weighing.v1.WeighingService/ListWeighings")
    return Attempt(
        COUNTY,
        lambda metadata: call(b"\xff" * 20, metadata=(*metadata, *bearer(token)), timeout=CALL_SECONDS),
        "INVALID_ARGUMENT",
        "MALFORMED_MESSAGE",
        "terminal/no-message",
    )


def more_than_the_credential_allows(trial: Trial) -> Attempt:
    # A message is taken when nothing is owed: the first one leaves a debt of minutes.
    token = trial.terminal("hasty", limits={"bytes_per_second": 1})
    trial.recording(token, "OK", "").call(())
    return trial.recording(token, "RESOURCE_EXHAUSTED", "RATE_LIMITED", principal="terminal/hasty")


BY_TOKEN: Final = (
    no_token,
    a_malformed_token,
    a_made_up_token,
    another_secret_of_a_credential,
    a_token_of_another_platform,
    a_revoked_token,
    an_expired_token,
    a_rotated_secret_without_overlap,
    a_record_of_another_unit,
    weighings_of_another_unit,
    weighings_of_another_division,
    addressed_entries_of_another_county,
    a_notice_to_those_above,
    a_credential_by_somebody_else_than_the_security_administrator,
    a_record_that_is_too_long,
    a_record_too_many,
    bytes_that_are_no_message,
    more_than_the_credential_allows,
)

MESSAGE_OVER_THE_LIMIT: Final = MESSAGE_BYTES_MAX + 1
