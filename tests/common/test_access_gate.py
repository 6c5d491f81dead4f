"""Who is let in, what of their messages is read, and how often they may try: on a real server."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.common.access.knowledge import CURRENT_SECONDS_MAX, KnownCredential, KnownSecret
from services.common.access.methods import MethodAccess
from services.common.access.permissions import Permission, PrincipalKind, permissions_of
from services.common.access.principal import CallLimits, Principal
from services.common.access.throttle import FAILURES_FREE
from services.common.access.tokens import (
    SERVICE_METADATA,
    ServiceTokens,
    digest,
    format_service_token,
    format_token,
    new_secret,
)
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_client import service_error
from tests.access import Access
from tests.common.conftest import Events
from tests.common.served import SERVICE, Requests, Served, refused

Serve = Callable[..., Served]
ONCE = f"/{SERVICE}/Once"


def echo(request: bytes, _context: object) -> bytes:
    return request + request_context().principal.name.encode()


def reason(served: Served, token: str | None, request: bytes = b"", **metadata: str) -> tuple[str, Reason]:
    """Call as somebody who must be refused; return status and reason."""
    with served.connect(token) as channel:
        headers = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        call: Any = channel.unary_unary(ONCE)
        error = refused(lambda: call(request, timeout=10, metadata=headers))
    return error.code().name, service_error(error).reason


def answer(served: Served, token: str, request: bytes = b"") -> bytes:
    with served.connect(token) as channel:
        call: Any = channel.unary_unary(ONCE)
        return bytes(call(request, timeout=10))


def test_nobody_is_let_in_without_credentials(serve: Serve) -> None:
    served = serve(once=echo)
    assert reason(served, None) == ("UNAUTHENTICATED", Reason.NO_CREDENTIALS)
    assert reason(served, None, authorization="Basic YTpi") == ("UNAUTHENTICATED", Reason.INVALID_CREDENTIALS)


def bad_tokens() -> Iterator[str]:
    # The same in every process that collects tests.
    secret = "A" * 43
    yield ""
    yield "zhichao"
    yield f"zhichao.tester.{secret}"
    yield f"zhichao.nobody.{secret}"
    yield f"zhichao.Tester.{secret}"
    yield f"zhichao.tester.{secret[:-1]}"
    yield f"zhichao.tester.{secret}."
    yield f"zhichao.tester.{secret}" + "x" * 300
    yield f"zhichao-service.{secret}"


@pytest.mark.parametrize("token", list(bad_tokens()))
def test_a_wrong_token_is_refused_and_tells_nothing(serve: Serve, token: str) -> None:
    assert reason(serve(once=echo), token) == ("UNAUTHENTICATED", Reason.INVALID_CREDENTIALS)


def test_ends_of_a_credential_are_told_to_its_holder_only(serve: Serve) -> None:
    access = Access()
    served = serve(once=echo, access=access)
    terminal = Principal(PrincipalKind.TERMINAL, "t-1", permissions_of(PrincipalKind.TERMINAL), frozenset({"u-1"}))
    token = access.issue(terminal)
    assert answer(served, token, b"1 ") == b"1 terminal/t-1"
    access.issue(terminal, valid=timedelta(seconds=-1))
    assert reason(served, token) == ("UNAUTHENTICATED", Reason.CREDENTIAL_EXPIRED)
    access.issue(terminal, is_revoked=True)
    assert reason(served, token) == ("UNAUTHENTICATED", Reason.CREDENTIAL_REVOKED)
    stranger = format_token("t-1", new_secret())
    assert reason(served, stranger) == ("UNAUTHENTICATED", Reason.INVALID_CREDENTIALS)


def test_both_secrets_work_while_a_rotation_overlaps(serve: Serve) -> None:
    access = Access()
    served = serve(once=echo, access=access)
    terminal = Principal(PrincipalKind.TERMINAL, "t-1", permissions_of(PrincipalKind.TERMINAL), frozenset({"u-1"}))
    former, current = new_secret(), new_secret()
    now = access.clock.now().timestamp()

    def rotate(former_ends_at: float) -> None:
        secrets = (KnownSecret(digest(former), former_ends_at), KnownSecret(digest(current), now + 60))
        access.say(KnownCredential(terminal, secrets, now + 60))

    rotate(now + 30)
    assert [answer(served, format_token("t-1", one)) for one in (former, current)] == [b"terminal/t-1"] * 2
    rotate(now - 1)
    assert reason(served, format_token("t-1", former)) == ("UNAUTHENTICATED", Reason.CREDENTIAL_EXPIRED)
    assert answer(served, format_token("t-1", current)) == b"terminal/t-1"


def test_services_know_each_other_by_the_file(serve: Serve, tmp_path: Any) -> None:
    first, second = new_secret(), new_secret()
    (tmp_path / "service").write_text(f"{first}\n{second}\n")
    tokens = ServiceTokens(tmp_path / "service")
    served = serve(once=echo, access=Access(tokens=tokens))
    assert tokens.sent() == format_service_token(first)
    for secret in (first, second):
        with served.connect(format_service_token(secret)) as channel:
            call: Any = channel.unary_unary(ONCE)
            assert call(b"", timeout=10, metadata=[(SERVICE_METADATA, "relay")]) == b"service/141025/relay"
    assert reason(served, format_service_token(new_secret())) == ("UNAUTHENTICATED", Reason.INVALID_CREDENTIALS)


def test_a_method_that_names_no_permission_is_refused_to_everybody(serve: Serve) -> None:
    served = serve(once=echo, methods={ONCE: MethodAccess(ONCE, None)})
    assert reason(served, served.access.token) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)


def test_a_caller_without_the_permission_is_refused(serve: Serve) -> None:
    methods = {ONCE: MethodAccess(ONCE, Permission.CREDENTIAL_WRITE, is_open=True)}
    served = serve(once=echo, methods=methods)
    assert reason(served, served.access.terminal("u-1")) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)
    assert answer(served, served.access.token) == b"person/tester"


def test_a_method_that_bounds_nobody_is_not_for_those_who_are_bound(serve: Serve) -> None:
    served = serve(once=echo, methods={ONCE: MethodAccess(ONCE, Permission.IDENTITY)}, access=Access("141000"))
    assert reason(served, served.access.terminal("u-1")) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
    assert reason(served, served.access.person(division="141025")) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
    assert answer(served, served.access.person(division="140000")) == b"person/person-1"


def test_a_service_that_has_not_heard_from_the_registry_lets_no_token_in(serve: Serve) -> None:
    served = serve(once=echo, access=Access(stale_seconds=-1))
    assert reason(served, served.access.token) == ("UNAVAILABLE", Reason.ACCESS_UNKNOWN)


def test_a_message_too_large_is_refused_before_anybody_reads_it(serve: Serve) -> None:
    methods = {ONCE: MethodAccess(ONCE, Permission.IDENTITY, is_open=True, message_bytes_max=10)}
    served = serve(once=echo, methods=methods)
    assert reason(served, served.access.token, b"x" * 11) == ("INVALID_ARGUMENT", Reason.MESSAGE_TOO_LARGE)
    assert answer(served, served.access.token, b"x" * 10) == b"x" * 10 + b"person/tester"


def test_who_sends_too_much_is_told_when_to_come_again(serve: Serve) -> None:
    served = serve(once=echo)
    token = served.access.terminal("u-1", limits=CallLimits(0.001, 2, 1e9))
    assert [answer(served, token) for _ in range(2)] == [b"terminal/terminal-1"] * 2
    with served.connect(token) as channel:
        call: Any = channel.unary_unary(ONCE)
        error = service_error(refused(lambda: call(b"", timeout=10)))
    assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", Reason.RATE_LIMITED)
    assert error.retry_after_seconds is not None
    assert error.retry_after_seconds > 100


def test_a_stream_is_slowed_down_and_not_refused(serve: Serve) -> None:
    served = serve(exchange=lambda requests, _context: requests)
    token = served.access.terminal("u-1", limits=CallLimits(100, 1, 1e9))
    with served.connect(token) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/Exchange")
        assert list(call(iter([b"1", b"2", b"3"]), timeout=10)) == [b"1", b"2", b"3"]


def test_who_tries_too_often_is_not_looked_at_for_a_while(serve: Serve, events: Events) -> None:
    served = serve(once=echo)
    served.access.terminal("u-1", name="t-1")
    wrong = format_token("t-1", new_secret())
    reasons = [reason(served, wrong)[1] for _ in range(FAILURES_FREE + 5)]
    assert reasons == [Reason.INVALID_CREDENTIALS] * FAILURES_FREE + [Reason.AUTHENTICATION_DELAYED] * 5
    # Whoever is right is not held up by them.
    assert answer(served, served.access.token) == b"person/tester"
    told = events.named("authentication_failed")
    assert len(told) == FAILURES_FREE
    assert {event["credential_id"] for event in told} == {"t-1"}
    assert wrong.rpartition(".")[2] not in repr(events.named("request_finished")) + repr(told)


def test_who_tries_while_the_registry_is_away_is_not_looked_at_either(serve: Serve, events: Events) -> None:
    """Nobody can say whether these tokens are wrong; whoever makes them up gains nothing by that."""
    access = Access()
    served = serve(once=echo, access=access)
    token = access.terminal("u-1", name="t-1")
    access.knowledge.grow_old(CURRENT_SECONDS_MAX + 1)
    unknown = format_token("t-2", new_secret())
    reasons = [reason(served, unknown) for _ in range(FAILURES_FREE + 2)]
    assert (
        reasons
        == [("UNAVAILABLE", Reason.ACCESS_UNKNOWN)] * FAILURES_FREE
        + [("RESOURCE_EXHAUSTED", Reason.AUTHENTICATION_DELAYED)] * 2
    )
    assert len(events.named("authentication_failed")) == FAILURES_FREE
    # Whoever is known is not delayed by somebody else on the same machine.
    assert answer(served, token) == b"terminal/t-1"


def test_a_service_that_knows_too_little_counts_no_attempts(serve: Serve, events: Events) -> None:
    access = Access(stale_seconds=-1)
    served = serve(once=echo, access=access)
    reasons = {reason(served, access.token) for _ in range(FAILURES_FREE + 2)}
    assert reasons == {("UNAVAILABLE", Reason.ACCESS_UNKNOWN)}
    assert events.named("authentication_failed") == []


def test_an_open_stream_ends_when_its_caller_is_revoked(serve: Serve) -> None:
    began = threading.Event()

    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        began.set()
        ended = threading.Event()
        request_context().on_end(ended.set)
        yield b"first"
        ended.wait(10)

    served = serve(spread=spread)
    terminal = Principal(PrincipalKind.TERMINAL, "t-1", permissions_of(PrincipalKind.TERMINAL), frozenset({"u-1"}))
    with served.connect(served.access.issue(terminal)) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE}/Spread")
        stream = call(b"", timeout=30)
        assert next(stream) == b"first"
        assert began.wait(10)
        served.access.issue(terminal, is_revoked=True)
        error = refused(lambda: next(stream))
    assert service_error(error).reason is Reason.CREDENTIAL_REVOKED


def test_a_stream_that_waits_for_its_caller_ends_too(serve: Serve) -> None:
    served = serve(exchange=lambda requests, _context: requests)
    terminal = Principal(PrincipalKind.TERMINAL, "t-1", permissions_of(PrincipalKind.TERMINAL), frozenset({"u-1"}))
    requests = Requests(b"1")
    with served.connect(served.access.issue(terminal)) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/Exchange")
        stream = call(requests, timeout=30)
        assert next(stream) == b"1"
        served.access.issue(terminal, is_revoked=True)
        error = refused(lambda: next(stream))
        requests.end()
    assert service_error(error).reason is Reason.CREDENTIAL_REVOKED


def test_the_use_of_a_credential_is_noted(serve: Serve) -> None:
    served = serve(once=echo)
    answer(served, served.access.terminal("u-1"))
    assert "terminal-1" in served.access.used


def test_a_failed_call_is_one_line(serve: Serve, events: Events) -> None:
    served = serve(once=echo)
    reason(served, None)
    (line,) = events.finished()
    assert (line["status"], line["reason"], line["principal"]) == ("UNAUTHENTICATED", "NO_CREDENTIALS", "")


def test_reflection_is_for_those_with_credentials(serve: Serve) -> None:
    served = serve(once=echo)
    with served.connect(None) as channel:
        call: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        error: Any = refused(lambda: list(call(iter([b"\x3a\x01*"]), timeout=10)))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
