"""The refusals of the enforcement service, worded in one place: what is wrong, and what the caller can do."""

from collections.abc import Sequence

from services.common.errors import ServiceError
from services.common.forms import Violation, bad_fields, prefixed
from services.common.reasons import Reason
from services.enforcement.kinds import AnyKind
from services.enforcement.store import Name

__all__ = [
    "ACCESS_RETRY_SECONDS",
    "AUDIENCES_NAMED_MAX",
    "bad_fields",
    "beyond_inbox",
    "divisions_unknown",
    "exists",
    "no_platform",
    "not_found",
    "not_owned",
    "not_recipient",
    "outside_scope",
    "withdrawn",
]

ACCESS_RETRY_SECONDS = 2.0
"""A service that does not know the divisions asks to come again after this: it tries the registry at least as often."""


def not_found(kind: AnyKind, name: Name) -> ServiceError:
    """Refuse because the directive is not held here."""
    return ServiceError(
        Reason.NOT_FOUND,
        f"{kind.directive_type} {_named(name)} is not held here",
        message_zh=f"本平台没有{kind.title_zh} {_named(name)}",
        metadata={"resource_type": kind.directive_type, "resource_id": _named(name)},
    )


def exists(kind: AnyKind, directive_id: str) -> ServiceError:
    """Refuse a new directive because its id is taken by other content."""
    return ServiceError(
        Reason.RESOURCE_EXISTS,
        f"{kind.directive_type} {directive_id} was issued with other content, which is kept: choose another id",
        message_zh=f"{kind.title_zh} {directive_id} 已下发且内容不同，保留原内容，请换用其他编号",
        metadata={"resource_type": kind.directive_type, "resource_id": directive_id},
    )


def not_owned(kind: AnyKind, directive_id: str, issuer: str) -> ServiceError:
    """Refuse to take back what another platform has issued."""
    return ServiceError(
        Reason.NOT_OWNED,
        f"{kind.directive_type} {directive_id} was issued by platform {issuer} and is taken back only there",
        message_zh=f"{kind.title_zh} {directive_id} 由平台 {issuer} 下发，只能由该平台撤回",
        metadata={"origin": issuer},
    )


def outside_scope(violations: Sequence[Violation], prefix: str, division: str, whose: str) -> ServiceError:
    """Refuse audiences that do not lie within a division; every one is named."""
    fields = prefixed(violations, prefix)
    others = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        f"{fields[0].field} {fields[0].description}, {whose}{others}: directives go down only",
        message_zh=f"下发对象须在 {division} 辖区内，不得向上级或同级下发",
        metadata={"field": fields[0].field},
        field_violations=fields,
    )


def no_platform(audiences: Sequence[str], places: Sequence[int], prefix: str) -> ServiceError:
    """Refuse audiences in which no platform is registered; every one is named."""
    codes = [audiences[place] for place in places]
    others = f" and {len(codes) - 1} more" if len(codes) > 1 else ""
    return ServiceError(
        Reason.REFERENCE_NOT_FOUND,
        f"no platform is registered in {codes[0]}{others}: register it, leave it out, or set allow_missing_platforms",
        message_zh=f"{'、'.join(codes[:AUDIENCES_NAMED_MAX])} 尚无登记平台，请先登记、去除，或允许缺少平台",
        metadata={"resource_type": "platform", "resource_id": codes[0]},
        field_violations=prefixed(
            [
                Violation(f"audiences[{place}]", f"is {audiences[place]}, where no platform is registered")
                for place in places
            ],
            prefix,
        ),
    )


def not_recipient(kind: AnyKind, name: Name, own: str) -> ServiceError:
    """Refuse a response of a platform that is not asked."""
    return ServiceError(
        Reason.NOT_RECIPIENT,
        f"{kind.directive_type} {_named(name)} does not ask platform {own} to respond",
        message_zh=f"{kind.title_zh} {_named(name)} 未要求平台 {own} 应答",
        metadata={"issuer": name.issuer, "directive_id": name.directive_id},
    )


def withdrawn(name: Name) -> ServiceError:
    """Refuse an acknowledgement of a notice that was taken back."""
    return ServiceError(
        Reason.NOTICE_WITHDRAWN,
        f"notice {_named(name)} was taken back by its issuer and is not acknowledged any more",
        message_zh=f"通报 {_named(name)} 已由下发平台撤回，无需签收",
        metadata={"issuer": name.issuer, "directive_id": name.directive_id},
    )


def beyond_inbox(position: int, newest: int) -> ServiceError:
    """Refuse a position of the inbox that does not exist."""
    return ServiceError(
        Reason.BEYOND_LOG,
        f"position {position} lies beyond the inbox, which stands at {newest}: list again and watch from now on",
        message_zh=f"位置 {position} 超出收件箱范围（当前为 {newest}），请重新查询后再订阅",
        metadata={"size": str(newest)},
    )


def divisions_unknown() -> ServiceError:
    """Refuse because nobody has told yet which divisions lie below which."""
    return ServiceError(
        Reason.ACCESS_UNKNOWN,
        "this service has not heard from the registry since its start: which divisions lie below which is unknown",
        message_zh="本服务启动后尚未与登记服务同步，暂不清楚区划隶属关系",
        retry_after_seconds=ACCESS_RETRY_SECONDS,
    )


def _named(name: Name) -> str:
    return f"{name.issuer}/{name.directive_id}"


AUDIENCES_NAMED_MAX = 10
"""Divisions named in a sentence; the rest stand in the field violations."""
