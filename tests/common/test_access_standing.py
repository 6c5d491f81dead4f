"""Rights that end while a call is open, whatever ended them, and what an open stream is held against meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.common import rpc_call, rpc_watch
from services.common.access.caller import Caller
from services.common.access.certificates import CertificateIdentity
from services.common.access.knowledge import CURRENT_SECONDS_MAX, KnownCredential, KnownPlatform, KnownSecret
from services.common.access.limits import STREAMS_MAX
from services.common.access.permissions import PrincipalKind, Role, permissions_of
from services.common.access.principal import Principal, platform_principal, service_principal
from services.common.access.tokens import bearer, digest, format_token
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_client import service_error
from tests.access import Access
from tests.common.clocks import SetClock
from tests.common.served import SERVICE, WAIT_SECONDS, Requests, Served, refused

Serve = Callable[..., Served]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def access(clock: SetClock) -> Access:
    return Access("141000", clock=clock, stale_seconds=60.0)


def person(access: Access, *roles: Role) -> tuple[Caller, Principal]:
    """Return a person who has just shown a token."""
    caller = access.control.caller_of_metadata(bearer(access.person(*roles, name="p-1")))
    assert caller is not None
    return caller, caller.principal


def standing(access: Access, caller: Caller) -> Reason | None:
    try:
        access.control.check_standing(caller)
    except ServiceError as error:
        return error.reason
    return None


def known(access: Access, principal: Principal) -> KnownCredential:
    found = access.knowledge.credential(principal.id)
    assert found is not None
    return found


def test_whoever_is_as_before_goes_on(access: Access) -> None:
    caller, _ = person(access, Role.VIEWER)

    assert standing(access, caller) is None
    assert standing(access, Caller(service_principal("141000", "relay"))) is None


def test_a_credential_that_was_revoked(access: Access, clock: SetClock) -> None:
    caller, principal = person(access, Role.VIEWER)
    access.say(replace(known(access, principal), revoked_at=clock.now().timestamp()))

    assert standing(access, caller) is Reason.CREDENTIAL_REVOKED


def test_a_credential_whose_time_is_over(access: Access, clock: SetClock) -> None:
    caller, _ = person(access, Role.VIEWER)
    clock.moment += timedelta(days=1)

    assert standing(access, caller) is Reason.CREDENTIAL_EXPIRED


def test_a_secret_that_was_rotated_out(access: Access, clock: SetClock) -> None:
    caller, principal = person(access, Role.VIEWER)
    before = known(access, principal)
    new = KnownSecret(digest("B" * 43), before.expires_at)
    former = replace(before.secrets[0], expires_at=clock.now().timestamp() + 60)
    access.say(replace(before, secrets=(former, new)))
    assert standing(access, caller) is None
    clock.moment += timedelta(seconds=60)
    assert standing(access, caller) is Reason.CREDENTIAL_EXPIRED
    access.say(replace(before, secrets=(new,)))
    assert standing(access, caller) is Reason.CREDENTIAL_EXPIRED


def test_a_credential_whose_rights_were_changed(access: Access) -> None:
    caller, principal = person(access, Role.VIEWER)
    changed = replace(principal, permissions=permissions_of(PrincipalKind.PERSON, [Role.AUDITOR]))
    access.say(replace(known(access, principal), principal=changed))

    assert standing(access, caller) is Reason.PERMISSION_MISSING


def test_a_credential_that_nobody_knows_any_more(access: Access) -> None:
    caller, _ = person(access, Role.VIEWER)
    access.say(is_restart=True)

    assert standing(access, caller) is Reason.INVALID_CREDENTIALS


def test_a_service_that_hears_nothing_trusts_nobody_for_long(access: Access, clock: SetClock) -> None:
    caller, _ = person(access, Role.VIEWER)
    clock.seconds += 60
    assert standing(access, caller) is None
    clock.seconds += 1
    assert standing(access, caller) is Reason.ACCESS_UNKNOWN
    assert standing(access, Caller(service_principal("141000", "relay"))) is None
    access.say()
    assert standing(access, caller) is None


def test_a_platform_that_is_no_longer_registered(access: Access, clock: SetClock) -> None:
    identity = CertificateIdentity("141025", clock.now() + timedelta(days=1))
    caller = Caller(platform_principal("141025"), certificate=identity)
    today = (clock.now() + timedelta(hours=8)).date()
    assert standing(access, caller) is Reason.PLATFORM_NOT_REGISTERED
    access.say(platforms=[KnownPlatform("141025", "141000")])
    assert standing(access, caller) is None
    for registered in (
        KnownPlatform("141025", "140000"),
        KnownPlatform("141025", "141000", valid_until=today),
        KnownPlatform("141025", "141000", valid_from=today + timedelta(days=1)),
    ):
        access.say(platforms=[registered])
        assert standing(access, caller) is Reason.PLATFORM_NOT_REGISTERED


def test_a_certificate_that_has_ended(access: Access, clock: SetClock) -> None:
    access.say(platforms=[KnownPlatform("141025", "141000")])
    identity = CertificateIdentity("141025", clock.now() + timedelta(minutes=1))
    caller = access.control.caller_of_certificate(identity)
    assert standing(access, caller) is None
    clock.moment += timedelta(minutes=1)
    assert standing(access, caller) is Reason.CREDENTIAL_EXPIRED


# On a server


def watching(_request: bytes, _context: object) -> Iterator[bytes]:
    context = request_context()
    ended = threading.Event()
    context.on_end(ended.set)
    yield b"first"
    while context.is_active():
        assert ended.wait(20)


def terminal(name: str = "t-1") -> Principal:
    return Principal(PrincipalKind.TERMINAL, name, permissions_of(PrincipalKind.TERMINAL), frozenset({"u-1"}))


def test_time_alone_ends_a_stream(serve: Serve, clock: SetClock) -> None:
    """Nobody says anything: the registry may be away when a credential ends."""
    access = Access(clock=clock)
    served = serve(spread=watching, access=access)
    with served.connect(access.issue(terminal())) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE}/Spread")
        stream = call(b"", timeout=30)
        assert next(stream) == b"first"
        clock.moment += timedelta(days=2)
        served.server._watch.look()
        error = refused(lambda: next(stream))

    assert service_error(error).reason is Reason.CREDENTIAL_EXPIRED


def test_a_stream_ends_when_the_registry_was_silent_for_too_long(serve: Serve, clock: SetClock) -> None:
    access = Access(clock=clock, stale_seconds=5.0)
    served = serve(exchange=lambda requests, _context: requests, access=access)
    requests = Requests(b"1")
    with served.connect(access.issue(terminal())) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/Exchange")
        stream = call(requests, timeout=30)
        assert next(stream) == b"1"
        clock.seconds += 6
        served.server._watch.look()
        error = refused(lambda: next(stream))
        requests.end()

    assert (service_error(error).reason, service_error(error).is_retryable) == (Reason.ACCESS_UNKNOWN, True)


def test_whoever_does_not_take_the_refusal_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_call, "CUT_SECONDS", 0.0)
    gone = threading.Event()

    def flood(_request: bytes, _context: object) -> Iterator[bytes]:
        request_context().on_end(gone.set)
        while True:
            # Until the caller's window is full: it reads nothing.
            yield bytes(64 * 1024)

    served = serve(spread=flood)
    with served.connect(served.access.issue(terminal())) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE}/Spread")
        stream = call(b"", timeout=30)
        assert next(stream)
        served.access.issue(terminal(), is_revoked=True)
        assert gone.wait(20)
        ended = threading.Event()

        def cut() -> None:
            while served.server._streams.call_count:
                served.server._watch.look()
            ended.set()

        threading.Thread(target=cut, daemon=True).start()
        assert ended.wait(20), "the thread of the stream is free again"
        stream.cancel()


# What is not known while the registry is away


@pytest.mark.parametrize("token", [format_token("p-2", "A" * 43), format_token("p-1", "A" * 43)])
def test_a_token_that_may_be_newer_than_the_last_word_is_not_refused_for_good(
    access: Access, clock: SetClock, token: str
) -> None:
    """A credential may have been issued, or rotated, since the registry was heard last."""
    caller, _ = person(access, Role.VIEWER)

    def refusal() -> ServiceError:
        with pytest.raises(ServiceError) as raised:
            access.control.caller_of_metadata(bearer(token))
        return raised.value

    clock.seconds += CURRENT_SECONDS_MAX
    assert (refusal().reason, refusal().status) == (Reason.INVALID_CREDENTIALS, "UNAUTHENTICATED")
    clock.seconds += 1
    assert (refusal().reason, refusal().status) == (Reason.ACCESS_UNKNOWN, "UNAVAILABLE")
    assert refusal().retry_after_seconds
    assert standing(access, caller) is None
    access.say()
    assert refusal().reason is Reason.INVALID_CREDENTIALS


def test_what_the_last_word_says_is_final(access: Access, clock: SetClock) -> None:
    token = access.person(Role.VIEWER, name="p-1")
    gone = access.issue(terminal("gone"), is_revoked=True)
    ended = access.issue(terminal("ended"), valid=timedelta(seconds=1))
    clock.seconds += CURRENT_SECONDS_MAX + 1
    clock.moment += timedelta(seconds=1)
    reasons = []
    for shown in (gone, ended):
        with pytest.raises(ServiceError) as raised:
            access.control.caller_of_metadata(bearer(shown))
        reasons.append(raised.value.reason)
    assert reasons == [Reason.CREDENTIAL_REVOKED, Reason.CREDENTIAL_EXPIRED]
    assert access.control.caller_of_metadata(bearer(token)) is not None


def test_a_platform_and_a_certificate_may_be_newer_too(access: Access, clock: SetClock) -> None:
    ends_at = clock.now() + timedelta(days=1)
    for identity in (CertificateIdentity("141025", ends_at), CertificateIdentity("141000", ends_at, "firm")):
        for seconds, reason in (
            (0.0, {Reason.PLATFORM_NOT_REGISTERED, Reason.INVALID_CREDENTIALS}),
            (CURRENT_SECONDS_MAX + 1, {Reason.ACCESS_UNKNOWN}),
        ):
            access.say()
            clock.seconds += seconds
            with pytest.raises(ServiceError) as raised:
                access.control.caller_of_certificate(identity)
            assert raised.value.reason in reason


# How many


def test_nobody_keeps_all_streams_for_himself(serve: Serve) -> None:
    served = serve(exchange=lambda requests, _context: requests, streams_max=100, threads=2)
    open_requests: list[Requests] = []
    channels: list[grpc.Channel] = []

    def opened(token: str) -> Any:
        requests = Requests(b"1")
        open_requests.append(requests)
        channels.append(served.connect(token))
        call: Any = channels[-1].stream_stream(f"/{SERVICE}/Exchange")
        return call(requests, timeout=30)

    token = served.access.issue(terminal())
    streams = [opened(token) for _ in range(STREAMS_MAX[PrincipalKind.TERMINAL])]
    assert [next(stream) for stream in streams] == [b"1"] * len(streams)
    over = service_error(refused(lambda: next(opened(token))))
    other = opened(served.access.issue(terminal("t-2")))
    assert (over.reason, dict(over.metadata)) == (Reason.TOO_MANY_REQUESTS, {"limit": str(len(streams))})
    assert next(other) == b"1"
    # One that has ended makes room.
    open_requests[0].end()
    assert list(streams[0]) == []
    ends_at = time.monotonic() + 20
    while True:
        again = opened(token)
        try:
            assert next(again) == b"1"
            break
        except grpc.RpcError:
            assert time.monotonic() < ends_at
    for requests in open_requests:
        requests.end()
    for channel in channels:
        channel.close()


def test_a_fault_of_one_look_does_not_end_the_looking(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_watch, "WATCH_SECONDS", 0.001)
    interceptor = serve().server._interceptor
    has_gone_on = threading.Event()
    looks = iter(range(3))

    def look() -> None:
        if next(looks) < 2:
            raise RuntimeError("a fault of whoever looks")
        has_gone_on.set()
        watch._is_over.set()

    watch = rpc_watch.StandingWatch("test", interceptor, [look])
    watch.start()
    try:
        assert has_gone_on.wait(WAIT_SECONDS)
    finally:
        watch.stop()
