"""The gate of a server: lets a call in, reads its messages, and lets its answers out, as its method's access demands.

A request is parsed only once its caller is known, may call the method, and has not sent too much.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import unquote

from google.protobuf.message import DecodeError, Message

from services.common.access.certificates import fingerprint_of, identity_of
from services.common.access.control import AccessControl, delayed, no_credentials
from services.common.access.masking import PersonalDataMask
from services.common.access.methods import MethodAccess, access_table, message_types
from services.common.access.permissions import Permission, PrincipalKind
from services.common.access.principal import Principal
from services.common.access.tokens import AUTHORIZATION_METADATA, metadata_value, presented_token
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_call import Call

PAUSE_SECONDS_MAX: Final = 0.5
"""A stream that has sent too much is looked at again after this, so that a stop or a revocation ends it."""

_ATTEMPTS: Final = frozenset(
    {Reason.NO_CREDENTIALS, Reason.INVALID_CREDENTIALS, Reason.CREDENTIAL_EXPIRED, Reason.CREDENTIAL_REVOKED}
)
"""Refusals that count as failed attempts to show who calls."""

_UNRECORDED_KINDS: Final = frozenset({PrincipalKind.SERVICE, PrincipalKind.PLATFORM})
"""Callers whose reading is the system's own working; what people read of it is recorded where they read it."""

_DENIED: Final = MethodAccess("", None)
"""A method that nothing is said of: refused to everybody."""


class AccessJournal(Protocol):
    """Writes down who has seen or asked for what has to be accounted for."""

    def record(self, call: Call, request: Message, personal_count: int) -> None:
        """Write one access durably. Raises ServiceError when it cannot be written: then the answer must not go out."""
        ...


class Admission:
    """One call at the gate. `principal` is None as long as only a certificate can tell who calls."""

    __slots__ = ("access", "credential_id", "mask", "principal")

    def __init__(
        self, access: MethodAccess, mask: PersonalDataMask | None, principal: Principal | None, credential_id: str
    ) -> None:
        self.access = access
        self.mask = mask
        self.principal = principal
        self.credential_id = credential_id


class Gate:
    """The gate of one server. `journal` may be absent where nothing that a server holds has to be accounted for."""

    def __init__(self, control: AccessControl, journal: AccessJournal | None, *, asks_certificates: bool) -> None:
        self._control = control
        self._journal = journal
        self._asks_certificates = asks_certificates
        self._methods: Mapping[str, MethodAccess] = {}
        self._masks: dict[str, PersonalDataMask] = {}
        # What callers themselves send to the methods whose answers hold personal data.
        self._sent: dict[str, PersonalDataMask] = {}

    @property
    def control(self) -> AccessControl:
        """What calls are held against."""
        return self._control

    def serve(self, services: Iterable[str], others: Mapping[str, MethodAccess]) -> None:
        """Take up what the methods of the services demand; `others` are methods that no proto describes."""
        services = tuple(services)
        self._methods = {**access_table(services), **others}
        types = message_types(services)
        self._masks = {path: mask for path, (_, kind) in types.items() if (mask := PersonalDataMask(kind)).is_needed}
        self._sent = {path: PersonalDataMask(types[path][0]) for path in self._masks}

    # In

    def knock(self, path: str, metadata: Iterable[Any]) -> Admission:
        """Look at the token and the permission. Raises ServiceError; nothing of the request has been read then."""
        control = self._control
        access = self._methods.get(path, _DENIED)
        principal = control.principal_of_metadata(metadata)
        if principal is None:
            if not self._asks_certificates:
                raise no_credentials()
            return Admission(access, self._masks.get(path), None, "")
        control.authorize(principal, access)
        return Admission(access, self._masks.get(path), principal, principal.id)

    def enter(self, call: Call, admission: Admission) -> None:
        """Let the call in: from now on it has its principal. Raises ServiceError."""
        principal = admission.principal
        attempts = self._control.failed_attempts
        wait = attempts.seconds_delayed(peer_address(call), admission.credential_id or _claimed_identity(call))
        if wait:
            raise delayed(wait)
        if principal is None:
            try:
                identity = identity_of(call.grpc_context.auth_context(), self._control.trust_domain)
                # Before it is judged: the log says who was refused.
                call.certificate = identity
                principal = self._control.principal_of_certificate(identity)
            except ServiceError as error:
                raise self.refused(call, error) from None
            self._control.authorize(principal, admission.access)
        call.principal = principal

    def refused(self, call: Call, error: ServiceError) -> ServiceError:
        """Count a refusal at the gate and return the one to send: another one for whoever has tried too often."""
        if error.reason not in _ATTEMPTS:
            return error
        credential_id = _claimed_identity(call)
        attempts = self._control.failed_attempts
        peer = peer_address(call)
        wait = attempts.seconds_delayed(peer, credential_id)
        if wait:
            return delayed(wait)
        attempts.failed(peer, credential_id, error.reason.value)
        return error

    def read(self, call: Call, admission: Admission, content: bytes, parse: Callable[[bytes], Any] | None) -> Any:
        """Read the request of a call that has one. Raises ServiceError, RATE_LIMITED among others."""
        wait = self._control.rates.take(call.principal, len(content))
        if wait:
            raise _rate_limited(call.principal, wait)
        return self._parsed(call.principal, admission.access, content, parse)

    def read_next(self, call: Call, admission: Admission, content: bytes, parse: Callable[[bytes], Any] | None) -> Any:
        """Read the next message of a stream; waits where `read` would refuse. Raises ServiceError."""
        while wait := self._control.rates.take(call.principal, len(content)):
            call.check_end()
            call.stopping.wait(min(wait, PAUSE_SECONDS_MAX))
        return self._parsed(call.principal, admission.access, content, parse)

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
            request = parse(content)
        except DecodeError:
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
        mask = admission.mask
        personal_count = 0
        if mask is not None:
            if not call.principal.may(Permission.PERSONAL_DATA_READ):
                mask.mask(response)
            elif _is_recorded(call.principal):
                personal_count = mask.count(response)
                # Whoever has just sent it learns nothing.
                if personal_count and self._count_sent(admission.access, request) >= personal_count:
                    personal_count = 0
        if not (personal_count or (admission.access.is_journalled and _is_recorded(call.principal))):
            return response
        if self._journal is not None and not call.is_access_recorded:
            self._journal.record(call, request, personal_count)
            # A stream is one access, whatever number of messages it has.
            call.is_access_recorded = True
        return response

    def _count_sent(self, access: MethodAccess, request: Any) -> int:
        sent = self._sent.get(f"/{access.name}")
        return sent.count(request) if sent is not None and isinstance(request, Message) else 0


def _is_recorded(principal: Principal) -> bool:
    # Whoever is bound to units has sent what it reads.
    return principal.source_unit_ids is None and principal.kind not in _UNRECORDED_KINDS


def peer_address(call: Call) -> str:
    """Return where a call comes from, without the port: `ipv4:192.0.2.1`, `unix`."""
    peer = unquote(call.grpc_context.peer())
    return "unix" if peer.startswith("unix") else peer.rpartition(":")[0]


def _claimed_identity(call: Call) -> str:
    """Return whom a caller claims to be, for the count of failed attempts: the credential of its token, or else its
    certificate. Platforms behind one address, as of a load balancer, must not be delayed for each other's failures.
    """
    token = presented_token(metadata_value(call.grpc_context.invocation_metadata(), AUTHORIZATION_METADATA))
    return token.credential_id if token is not None else fingerprint_of(call.grpc_context.auth_context())


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
