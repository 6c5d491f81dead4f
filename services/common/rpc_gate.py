"""The gate of a server: lets a call in, reads its messages, and lets its answers out, as its method's access demands.

A request is parsed only once its caller is known, may call the method, and has not sent too much.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import unquote

import structlog
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from services.common.access.caller import Caller
from services.common.access.certificates import fingerprint_of, identity_of
from services.common.access.control import AccessControl, UnknownCallerError, delayed, no_credentials
from services.common.access.limits import STREAMS_MAX, UNARY_CALLS_MAX
from services.common.access.masking import PersonalDataMask
from services.common.access.methods import MethodAccess, access_table, request_types, response_types
from services.common.access.permissions import Permission, PrincipalKind
from services.common.access.principal import Principal
from services.common.access.throttle import source_of
from services.common.access.tokens import AUTHORIZATION_METADATA, metadata_value, presented_token
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.refused_attempts import AUDITED_REASONS, RefusalSource
from services.common.rpc_call import Call, stopping_error
from services.common.rpc_limits import RETRY_AFTER_BUSY_SECONDS
from services.common.rpc_threads import CountedCall
from services.common.wire import MalformedMessage, count_repeated

log = structlog.get_logger()

PAUSE_SECONDS_MAX: Final = 0.5
"""A stream that has sent too much is looked at again after this, so that a stop or a revocation ends it."""

_ATTEMPTS: Final = frozenset(
    {Reason.NO_CREDENTIALS, Reason.INVALID_CREDENTIALS, Reason.CREDENTIAL_EXPIRED, Reason.CREDENTIAL_REVOKED}
)
"""Refusals that count as failed attempts to show who calls."""

ACCOUNT_SECONDS: Final = 600.0
"""A stream with personal data is written down before its first such message and then at most this often, so that a
watch that lives for days neither fills the journal nor says at its end only how much it was (the contract of
AccessRecord)."""

_UNRECORDED_KINDS: Final = frozenset({PrincipalKind.SERVICE, PrincipalKind.PLATFORM})
"""Callers whose reading is the system's own working; what people read of it is recorded where they read it."""


_SENT_BY_UNITS: Final = frozenset({Permission.WEIGHING_RECORD, Permission.WEIGHING_READ})
"""Permissions of methods whose answers hold what terminals and integrators have sent themselves."""


class AccessJournal(Protocol):
    """Writes down who has seen or changed what has to be accounted for, and who was refused."""

    def record(
        self, call: Call, request: Message | None, personal_count: int, response: Message | None = None
    ) -> object:
        """Write one access durably. Raises ServiceError when it cannot be written: then the answer must not go out.

        `response` is given where it may name what the request does not, as the id of something new. What it returns is
        not looked at.
        """
        ...

    def note_refusal(self, source: RefusalSource, method: str, claimed: str) -> None:
        """Count one refused attempt, to be written down with others."""
        ...


class Admission:
    """One call at the gate. `caller` is None as long as only a certificate can tell who calls."""

    __slots__ = ("caller", "counted", "method")

    def __init__(self, method: "_Method", caller: Caller | None) -> None:
        self.method = method
        self.caller = caller
        # What counts a unary call of a caller whose calls are bounded.
        self.counted: CountedCall | None = None


class _Method:
    """What the gate knows of one method: what it demands, and where its messages hold personal data and names."""

    __slots__ = ("access", "mask", "sent")

    def __init__(self, access: MethodAccess, request: Descriptor | None = None, response: Descriptor | None = None):
        self.access = access
        self.mask = _needed(response)
        self.sent = _needed(request)

    def own_values(self, request: Any) -> Collection[str]:
        """Return the personal data that a request itself holds."""
        return set(self.sent.values(request)) if self.sent is not None and request is not None else ()


def _needed(descriptor: Descriptor | None) -> PersonalDataMask | None:
    """Return the mask of a message type; None for one that cannot hold personal data."""
    mask = PersonalDataMask(descriptor) if descriptor is not None else None
    return mask if mask is not None and mask.is_needed else None


_DENIED: Final = _Method(MethodAccess("", None))
"""A method that nothing is said of: refused to everybody."""


class Gate:
    """The gate of one server. `journal` may be absent where nothing that a server holds has to be accounted for."""

    def __init__(self, control: AccessControl, journal: AccessJournal | None, *, asks_certificates: bool) -> None:
        self._control = control
        self._journal = journal
        self._asks_certificates = asks_certificates
        self._methods: Mapping[str, _Method] = {}
        self._streams_guard = threading.Lock()
        # Open streams, and unary calls, by the names of their principals; only of kinds that are bounded.
        self._streams: Counter[str] = Counter()
        self._unary_guard = threading.Lock()
        self._unary_calls: Counter[str] = Counter()

    @property
    def control(self) -> AccessControl:
        """What calls are held against."""
        return self._control

    def serve(self, services: Iterable[str], others: Mapping[str, MethodAccess]) -> None:
        """Take up what the methods of the services demand; `others` are methods that no proto describes."""
        services = tuple(services)
        requests, responses = request_types(services), response_types(services)
        self._methods = {
            path: _Method(access, requests.get(path), responses.get(path))
            for path, access in {**access_table(services), **others}.items()
        }

    # In

    def recognise(self, metadata: Iterable[Any]) -> Caller | None:
        """Look at the token; None where only a certificate can tell who calls. Raises ServiceError."""
        caller = self._control.caller_of_metadata(metadata)
        if caller is None and not self._asks_certificates:
            raise no_credentials()
        return caller

    def admit(self, path: str, caller: Caller | None, *, is_unary: bool) -> Admission:
        """Look at the permission, and whether the caller has sent too much already.

        Raises ServiceError; nothing of the request has been read then.
        """
        method = self._methods.get(path, _DENIED)
        if caller is not None:
            self._control.authorize(caller.principal, method.access)
            if is_unary and (wait := self._control.rates.seconds_owed(caller.principal)):
                raise _rate_limited(caller.principal, wait)
        return Admission(method, caller)

    def unary_counter(self, caller: Caller | None) -> Callable[[int], None] | None:
        """Return what counts one more and one less unary call of a caller; None where they are not counted.

        A call counts from its beginning, because its message may never come. Raises ServiceError TOO_MANY_REQUESTS.
        """
        most = UNARY_CALLS_MAX.get(caller.principal.kind) if caller is not None else None
        if caller is None or most is None:
            return None
        if self._unary_calls.get(caller.principal.name, 0) >= most:
            raise _too_many(caller.principal, most, "calls", "调用")
        return partial(self._count_unary, caller.principal.name)

    def _count_unary(self, name: str, change: int) -> None:
        with self._unary_guard:
            self._unary_calls[name] += change
            if self._unary_calls[name] <= 0:
                del self._unary_calls[name]

    def enter(self, call: Call, admission: Admission) -> None:
        """Let the call in: from now on it has its principal. Raises ServiceError."""
        caller = admission.caller
        attempts = self._control.failed_attempts
        # Services of the platform are let in whatever others have tried from the same machine.
        if attempts.has_sources and (caller is None or caller.has_token):
            claimed = caller.principal.id if caller is not None else self._claimed_identity(call)
            wait = attempts.seconds_delayed(peer_address(call), claimed)
            if wait:
                raise delayed(wait)
        if caller is None:
            try:
                identity = identity_of(call.grpc_context.auth_context(), self._control.trust_domain)
                # Before it is judged: the log says who was refused.
                call.certificate = identity
                caller = self._control.caller_of_certificate(identity)
            except ServiceError as error:
                raise self.refused(call, error) from None
            call.principal = caller.principal
            self._control.authorize(caller.principal, admission.method.access)
        call.principal = caller.principal
        if call.is_stream:
            self._count_stream(caller.principal)
        call.caller = caller

    def _count_stream(self, principal: Principal) -> None:
        most = STREAMS_MAX.get(principal.kind)
        if most is None:
            return
        with self._streams_guard:
            if self._streams[principal.name] >= most:
                raise _too_many(principal, most, "streams", "流")
            self._streams[principal.name] += 1

    def stream_closed(self, call: Call) -> None:
        """Forget a stream that was let in and has ended."""
        if call.caller is None or call.principal.kind not in STREAMS_MAX:
            return
        with self._streams_guard:
            self._streams[call.principal.name] -= 1
            if self._streams[call.principal.name] <= 0:
                del self._streams[call.principal.name]

    def check_standing(self, call: Call) -> None:
        """Refuse a caller whose right has ended since its call began. Raises ServiceError."""
        if call.caller is not None:
            self._control.check_standing(call.caller)

    def refused(self, call: Call, error: ServiceError) -> ServiceError:
        """Count a refusal at the gate and return the one to send: another one for whoever has tried too often."""
        if error.reason not in _ATTEMPTS and not isinstance(error, UnknownCallerError):
            return error
        credential_id = self._claimed_identity(call)
        attempts = self._control.failed_attempts
        peer = peer_address(call)
        wait = attempts.seconds_delayed(peer, credential_id)
        if wait:
            return delayed(wait)
        attempts.failed(peer, credential_id, error.reason.value)
        return error

    def note_refusal(self, call: Call, error: Exception) -> None:
        """Count a refusal for the audit log, if it is one because of who calls."""
        if self._journal is None or not isinstance(error, ServiceError) or error.reason not in AUDITED_REASONS:
            return
        peer = source_of(peer_address(call))
        principal = call.principal.name or (call.certificate.name if call.certificate is not None else "")
        if principal:
            self._journal.note_refusal(RefusalSource(principal, peer, error.reason, call.method), call.method, "")
        else:
            claimed = self._claimed_identity(call)
            self._journal.note_refusal(RefusalSource("", peer, error.reason, claimed), call.method, claimed)

    def _claimed_identity(self, call: Call) -> str:
        """Return whom a caller claims to be, for the count of failed attempts: the credential of its token, or else its
        certificate. Platforms behind one address, as of a load balancer, must not be delayed for each other's failures.

        Ids that somebody makes up are one source, and do not get into the log: they may be parts of a secret.
        """
        token = presented_token(metadata_value(call.grpc_context.invocation_metadata(), AUTHORIZATION_METADATA))
        if token is None:
            return fingerprint_of(call.grpc_context.auth_context())
        return token.credential_id if self._control.knowledge.credential(token.credential_id) is not None else ""

    def read(self, call: Call, admission: Admission, content: bytes, parse: Callable[[bytes], Any] | None) -> Any:
        """Read the request of a call that has one. Raises ServiceError, RATE_LIMITED among others."""
        wait = self._control.rates.take(call.principal, len(content))
        if wait:
            raise _rate_limited(call.principal, wait)
        return self._parsed(call.principal, admission.method.access, content, parse)

    def read_next(self, call: Call, admission: Admission, content: bytes, parse: Callable[[bytes], Any] | None) -> Any:
        """Read the next message of a stream; waits where `read` would refuse. Raises ServiceError."""
        while wait := self._control.rates.take(call.principal, len(content)):
            call.check_end()
            if not call.is_active():
                # Its caller has gone: nobody needs to wait for the message that is left.
                raise stopping_error()
            call.stopping.wait(min(wait, PAUSE_SECONDS_MAX))
        return self._parsed(call.principal, admission.method.access, content, parse)

    def _parsed(
        self, principal: Principal, access: MethodAccess, content: bytes, parse: Callable[[bytes], Any] | None
    ) -> Any:
        if len(content) > access.message_bytes_max:
            raise ServiceError(
                Reason.MESSAGE_TOO_LARGE,
                f"the message has {len(content)} bytes, {access.name} takes {access.message_bytes_max}: "
                "send less at once",
                message_zh=f"消息有 {len(content)} 字节，上限为 {access.message_bytes_max} 字节，请减少单次发送量",
                metadata={"limit": str(access.message_bytes_max), "actual": str(len(content))},
            )
        if parse is None:
            return content
        try:
            if access.items_path and count_repeated(content, access.items_path, access.items_max) > access.items_max:
                raise _too_many_items(access)
            request = parse(content)
        except (DecodeError, MalformedMessage):
            raise ServiceError(
                Reason.MALFORMED_MESSAGE,
                f"the bytes sent are not a request of {access.name}: compare the protos of both sides",
            ) from None
        self._control.check_request(principal, access, request)
        return request

    # Out

    def reply(self, call: Call, admission: Admission, request: Any, response: Any) -> Any:
        """Mask what the caller may not see, and write down what has to be accounted for, before the answer goes out.

        Raises ServiceError when that cannot be written.
        """
        mask, principal = admission.method.mask, call.principal
        is_recorded = _is_recorded(principal)
        if mask is not None:
            if not _may_see(principal, admission.method.access):
                response = mask.masked(response)
            elif is_recorded and (values := mask.values(response)):
                # What a caller has said itself, as whoever registers a person, it does not see here for the first time.
                own = admission.method.own_values(request)
                call.personal_data_count += sum(value not in own for value in values)
        is_due = call.personal_data_count or (admission.method.access.is_journalled and not call.account_time)
        if is_recorded and is_due and time.monotonic() >= call.account_time:
            self._account(call, admission, request, None if call.is_long else response)
        return response

    def leave(self, call: Call, admission: Admission, request: Any) -> None:
        """Write down what a stream has sent since it was written down last. Its answers are out: it cannot fail."""
        if call.personal_data_count:
            try:
                self._account(call, admission, request)
            except ServiceError as error:
                log.warning(
                    "access_not_recorded",
                    method=call.method,
                    principal=call.principal.name,
                    count=call.personal_data_count,
                    reason=error.reason.value,
                )

    def _account(self, call: Call, admission: Admission, request: Any, response: Any = None) -> None:
        if self._journal is None:
            raise ServiceError(
                Reason.NOT_CONFIGURED,
                f"answers of {admission.method.access.name} have to be accounted for, and there is no journal here",
            )
        self._journal.record(call, request, call.personal_data_count, response)
        call.personal_data_count = 0
        call.account_time = time.monotonic() + ACCOUNT_SECONDS


def _may_see(principal: Principal, access: MethodAccess) -> bool:
    """Tell whether a caller sees personal data in the answers of a method."""
    # Whoever is bound to units sees what it has sent; who answers for its units was entered by somebody else.
    has_sent = principal.source_unit_ids is None or access.permission in _SENT_BY_UNITS
    return has_sent and principal.may(Permission.PERSONAL_DATA_READ)


def _is_recorded(principal: Principal) -> bool:
    # Whoever is bound to units has sent what it reads.
    return principal.source_unit_ids is None and principal.kind not in _UNRECORDED_KINDS


def peer_address(call: Call) -> str:
    """Return where a call comes from, with the port: `ipv4:192.0.2.1:40000`, `unix:`."""
    return unquote(call.grpc_context.peer())


def _too_many_items(access: MethodAccess) -> ServiceError:
    # Counted no further: there may be millions.
    return ServiceError(
        Reason.BATCH_TOO_LARGE,
        f"{access.items_field} holds more than {access.items_max}, the most that {access.name} takes at once: split it",
        message_zh=f"字段 {access.items_field} 超过上限 {access.items_max} 项，请拆分后重发",
        metadata={"limit": str(access.items_max), "actual": str(access.items_max + 1)},
    )


def _too_many(principal: Principal, most: int, what: str, what_zh: str) -> ServiceError:
    return ServiceError(
        Reason.TOO_MANY_REQUESTS,
        f"{principal.name} has {most} {what} open at this service, which is its limit: end some first",
        message_zh=f"该凭证已打开 {most} 个{what_zh}，达到上限，请先结束部分连接",
        metadata={"limit": str(most)},
        retry_after_seconds=RETRY_AFTER_BUSY_SECONDS,
    )


def _rate_limited(principal: Principal, wait: float) -> ServiceError:
    limits = principal.limits
    allowed = f"{limits.calls_per_second:g} calls and {limits.bytes_per_second or 0:g} bytes a second"
    return ServiceError(
        Reason.RATE_LIMITED,
        f"{principal.name} may send {allowed} to this service: wait {wait:.1f} s, or stream what waits",
        message_zh=f"请求速率超出限额（{allowed}），请在 {wait:.1f} 秒后重试",
        metadata={"limit": allowed},
        retry_after_seconds=max(wait, 0.1),
    )
