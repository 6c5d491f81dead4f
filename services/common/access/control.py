"""Holds calls against the access that their methods demand: who calls, may they, and does the request stay within what
they are bound to. Default deny: whatever is not allowed is refused.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.message import Message

from services.common.access.caller import Caller
from services.common.access.certificates import CertificateIdentity
from services.common.access.knowledge import AccessKnowledge, KnownCredential
from services.common.access.methods import MethodAccess
from services.common.access.permissions import PrincipalKind
from services.common.access.principal import BOOTSTRAP_ID, Principal, platform_principal, service_principal
from services.common.access.throttle import FailedAttempts, RateLimiter
from services.common.access.tokens import (
    AUTHORIZATION_METADATA,
    SERVICE_METADATA,
    ServiceTokens,
    Token,
    digest,
    is_service_name,
    metadata_value,
    presented_token,
)
from services.common.china_time import CHINA_TIME
from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason

ACCESS_RETRY_SECONDS: Final = 2.0
"""A service that cannot judge tokens asks to come again after this: it tries the registry at least as often."""


class UnknownCallerError(ServiceError):
    """Nobody is known by these credentials, and whether they are wrong cannot be said: they may be newer than what is
    known. Counted as a failed attempt all the same, or whoever tries would do well to come while the registry is away.
    """


class AccessControl:
    """What the servers of one service hold their calls against.

    `bootstrap` may accept the secret of a service's first token (the registry's, for its first credential).
    """

    def __init__(
        self,
        platform: str,
        knowledge: AccessKnowledge,
        service_tokens: ServiceTokens | None,
        clock: Clock,
        *,
        stale_seconds: float,
        trust_domain: str = "zhichao",
        on_use: Callable[[str], None] | None = None,
        bootstrap: Callable[[Token], Principal | None] | None = None,
    ) -> None:
        self.platform = platform
        self.knowledge = knowledge
        self.trust_domain = trust_domain
        self.rates = RateLimiter(clock.monotonic)
        self.failed_attempts = FailedAttempts(clock.monotonic)
        self._service_tokens = service_tokens
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._on_use = on_use
        self._bootstrap = bootstrap

    # Who calls

    def caller_of_metadata(self, metadata: Iterable[Any]) -> Caller | None:
        """Return who calls by the token in the metadata; None when there is no token.

        Raises ServiceError INVALID_CREDENTIALS, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED, ACCESS_UNKNOWN.
        """
        authorization = metadata_value(metadata, AUTHORIZATION_METADATA)
        if not authorization:
            return None
        token = presented_token(authorization)
        if token is None:
            raise _invalid("the authorization metadata must be `Bearer` and a token as the registry has issued it")
        if token.is_service:
            if self._service_tokens is None or not self._service_tokens.accepts(token.secret):
                raise _invalid("the service token is not the one of this platform: compare the services' token files")
            name = metadata_value(metadata, SERVICE_METADATA)
            return Caller(service_principal(self.platform, name if is_service_name(name) else "unnamed"))
        presented = digest(token.secret)
        if self._bootstrap is not None and (first := self._bootstrap(token)) is not None:
            return Caller(first, presented)
        self._check_age()
        known = self.knowledge.credential(token.credential_id)
        ends_at = known.secret_ends_at(presented) if known is not None else None
        if known is None or ends_at is None:
            raise self._unknown("the token", "the token is not one of this platform's: compare it with the one issued")
        self._check_credential(token.credential_id, known, ends_at)
        if self._on_use is not None:
            self._on_use(token.credential_id)
        return Caller(known.principal, presented)

    def caller_of_certificate(self, identity: CertificateIdentity | None) -> Caller:
        """Return who calls by the names in a certificate that TLS has verified.

        Raises ServiceError NO_CREDENTIALS without one, INVALID_CREDENTIALS, PLATFORM_NOT_REGISTERED, and as for tokens.
        """
        if identity is None:
            raise no_credentials()
        self._check_certificate(identity)
        if identity.credential_id:
            if identity.platform != self.platform:
                raise _invalid(f"the certificate is for platform {identity.platform}, this is {self.platform}")
            self._check_age()
            known = self.knowledge.credential(identity.credential_id)
            if known is None:
                what = "the credential that the certificate names"
                raise self._unknown(what, f"{what} is none that this platform has issued")
            self._check_credential(identity.credential_id, known, known.expires_at)
            if self._on_use is not None:
                self._on_use(identity.credential_id)
            return Caller(known.principal, certificate=identity)
        self.check_platform(identity.platform)
        return Caller(platform_principal(identity.platform), certificate=identity)

    def check_platform(self, code: str) -> None:
        """Refuse a platform that is not registered as one below this one.

        Raises ServiceError PLATFORM_NOT_REGISTERED, ACCESS_UNKNOWN.
        """
        if not self.knowledge.is_known:
            raise _access_unknown("it has not heard from the registry since its start")
        known = self.knowledge.platform(code)
        today = self._clock.now().astimezone(CHINA_TIME).date()
        if code == self.platform:
            raise ServiceError(
                Reason.PLATFORM_NOT_REGISTERED,
                f"this is platform {code} itself, which is not below itself: its upstream must be another one",
                message_zh=f"对端即为本平台 {code}，上级平台须为其他平台",
                metadata={"platform": code},
            )
        if known is None and not self.knowledge.is_current:
            raise self._may_be_newer(f"platform {code}")
        if known is None or known.upstream_code != self.platform:
            raise ServiceError(
                Reason.PLATFORM_NOT_REGISTERED,
                f"platform {code} is not registered at {self.platform} as one that goes up to it: register it there "
                f"with upstream_code {self.platform}",
                message_zh=f"平台 {code} 未在 {self.platform} 登记为其下级，请登记并填写上级代码 {self.platform}",
                metadata={"platform": code},
            )
        if not known.is_valid_on(today):
            raise ServiceError(
                Reason.PLATFORM_NOT_REGISTERED,
                f"the registration of platform {code} at {self.platform} does not hold today: look at valid_from and "
                "valid_until",
                message_zh=f"平台 {code} 在 {self.platform} 的登记当前不在有效期内",
                metadata={"platform": code},
            )

    def check_standing(self, caller: Caller) -> None:
        """Refuse a caller whose right has ended since its call began. Raises ServiceError as above."""
        principal = caller.principal
        if caller.certificate is not None:
            self._check_certificate(caller.certificate)
        if principal.kind is PrincipalKind.SERVICE:
            return
        if principal.kind is PrincipalKind.PLATFORM:
            self.check_platform(principal.id)
            return
        known = self.knowledge.credential(principal.id)
        if known is None:
            if principal.id != BOOTSTRAP_ID:
                raise _invalid("the credential is not one of this platform's any more")
            return
        self._check_age()
        # A secret that is gone was replaced twice: it has ended.
        ends_at = (known.secret_ends_at(caller.secret_digest) or 0.0) if caller.has_token else known.expires_at
        self._check_credential(principal.id, known, ends_at)
        if known.principal != principal:
            raise ServiceError(
                Reason.PERMISSION_MISSING,
                "what the credential may do was changed while the call was open: call again",
                message_zh="凭证权限已变更，请重新调用",
            )

    # May they

    def authorize(self, principal: Principal, access: MethodAccess) -> None:
        """Refuse a caller without the permission, or one that the method cannot be bounded for.

        Raises ServiceError PERMISSION_MISSING, OUTSIDE_SCOPE.
        """
        permission = access.permission
        if permission is None or not principal.may(permission):
            raise ServiceError(
                Reason.PERMISSION_MISSING,
                f"{principal.name} may not call this: it needs the permission {permission}"
                if permission
                else "nobody may call this: the method names no permission",
                message_zh=f"没有调用所需的权限 {permission}" if permission else "该方法未声明权限，禁止调用",
                metadata={"permission": permission or ""},
            )
        if access.is_open or access.checks_items:
            return
        if principal.source_unit_ids is not None and not access.unit_field:
            raise _outside("", "this method is not for callers that are bound to source units")
        if not access.division_field and self.is_bound_to_division(principal):
            raise _outside("", f"this method is not for callers that are bound to division {principal.division_code}")

    def check_request(self, principal: Principal, access: MethodAccess, request: Message) -> None:
        """Refuse a request beyond the caller's units or division. Raises ServiceError OUTSIDE_SCOPE."""
        if access.is_open or access.checks_items:
            return
        if principal.source_unit_ids is not None:
            unit = access.unit_of(request)
            if unit not in principal.source_unit_ids:
                what = f"{unit[:64]!r} is not one of yours" if unit else "name one of your source units"
                raise _outside(access.unit_field, what)
        elif self.is_bound_to_division(principal):
            division = access.division_of(request)
            if not self.knowledge.divisions.is_within(division, principal.division_code):
                what = f"{division[:64]!r} is not within yours" if division else "name a division or platform of yours"
                raise _outside(access.division_field, f"{what}: {principal.division_code} and below")

    def is_bound_to_division(self, principal: Principal) -> bool:
        """Tell whether the principal is bound to less than the whole platform."""
        return bool(principal.division_code) and not self.knowledge.divisions.is_within(
            self.platform, principal.division_code
        )

    # Credentials

    def _check_certificate(self, identity: CertificateIdentity) -> None:
        if self._clock.now() >= identity.ends_at:
            ended_at = _instant(identity.ends_at.timestamp())
            raise ServiceError(
                Reason.CREDENTIAL_EXPIRED,
                f"the certificate of platform {identity.platform} ended at {ended_at}: renew it and connect again",
                message_zh=f"平台 {identity.platform} 的证书已于 {ended_at} 到期，请更新证书后重新连接",
                metadata={"platform": identity.platform, "expire_time": ended_at},
            )

    def _check_age(self) -> None:
        age = self.knowledge.age_seconds()
        if age > self._stale_seconds:
            since = "since its start" if age == float("inf") else f"for {age:.0f} s"
            raise _access_unknown(f"it has not heard from the registry {since}")

    def _unknown(self, what: str, message: str) -> ServiceError:
        """Make the refusal of what is not known here: final only if this service has just heard what there is."""
        return _invalid(message) if self.knowledge.is_current else self._may_be_newer(what, UnknownCallerError)

    def _may_be_newer(self, what: str, error: type[ServiceError] = ServiceError) -> ServiceError:
        age = self.knowledge.age_seconds()
        why = f"it has not heard from the registry for {age:.0f} s, and {what} may be newer than that"
        return _access_unknown(why, error)

    def _check_credential(self, credential_id: str, known: KnownCredential, ends_at: float) -> None:
        """Refuse a credential that was revoked, or has ended: as a whole, or as it was shown."""
        if known.revoked_at is not None:
            raise ServiceError(
                Reason.CREDENTIAL_REVOKED,
                f"credential {credential_id} was revoked at {_instant(known.revoked_at)}: ask for another one",
                message_zh=f"凭证 {credential_id} 已于 {_instant(known.revoked_at)} 吊销，请申请新凭证",
                metadata={"credential_id": credential_id, "revoke_time": _instant(known.revoked_at)},
            )
        ends_at = min(ends_at, known.expires_at)
        if self._clock.now().timestamp() >= ends_at:
            raise ServiceError(
                Reason.CREDENTIAL_EXPIRED,
                f"credential {credential_id} or this secret of it ended at {_instant(ends_at)}: rotate it or ask for "
                "another one",
                message_zh=f"凭证 {credential_id}（或其密钥）已于 {_instant(ends_at)} 到期，请轮换或重新申请",
                metadata={"credential_id": credential_id, "expire_time": _instant(ends_at)},
            )


def no_credentials() -> ServiceError:
    """Make the refusal of a call that says nothing of who calls."""
    return ServiceError(
        Reason.NO_CREDENTIALS,
        "the call carries no credentials: send the metadata `authorization: Bearer <token>`",
        message_zh="调用未携带身份凭证，请在元数据中提供 authorization: Bearer <令牌>",
    )


def delayed(seconds: float) -> ServiceError:
    """Make the refusal of an attempt that is not looked at."""
    return ServiceError(
        Reason.AUTHENTICATION_DELAYED,
        f"too many failed attempts came from there: try again in {seconds:.0f} s with the right credentials",
        message_zh=f"该来源身份验证失败次数过多，请在 {seconds:.0f} 秒后使用正确凭证重试",
        retry_after_seconds=seconds,
    )


def _invalid(message: str) -> ServiceError:
    return ServiceError(Reason.INVALID_CREDENTIALS, message)


def _access_unknown(why: str, error: type[ServiceError] = ServiceError) -> ServiceError:
    return error(
        Reason.ACCESS_UNKNOWN,
        f"this service does not know who may do what: {why}",
        message_zh="本服务长时间未能与登记服务同步权限，暂时无法核验",
        retry_after_seconds=ACCESS_RETRY_SECONDS,
    )


def _outside(field: str, what: str) -> ServiceError:
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        f"{field}: {what}" if field else what,
        message_zh=f"字段 {field} 超出授权范围" if field else "该方法不适用于绑定单位或区划的凭证",
        metadata={"field": field},
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
