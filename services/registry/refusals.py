"""The refusals of the registry, worded in one place: what is wrong, and what the caller can do."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.registry.forms import Violation


def resource_id(key: Iterable[Any]) -> str:
    """Return the values of a key as one text; an open first day of validity is left out."""
    return "/".join(str(part) for part in key if part != "")


def bad_fields(violations: Sequence[Violation], prefix: str = "") -> ServiceError:
    """Refuse fields, all at once; the prefix is the request's field that holds them."""
    return invalid([FieldViolation(prefix + field, description) for field, description in violations])


def refuse_bad(checked: Sequence[Violation]) -> None:
    """Refuse the fields that have something wrong with them, if there are any. Raises ServiceError INVALID_ARGUMENT."""
    violations = [violation for violation in checked if violation.description]
    if violations:
        raise bad_fields(violations)


def not_found(resource_type: str, key: Iterable[Any], hint: str = "") -> ServiceError:
    """Refuse because the resource is not held here."""
    named = resource_id(key)
    return ServiceError(
        Reason.NOT_FOUND,
        f"{resource_type} {named} is not held here{hint}",
        message_zh=f"本平台没有 {resource_type} {named}",
        metadata={"resource_type": resource_type, "resource_id": named},
    )


def missing_reference(resource_type: str, key: Iterable[Any], origin: str) -> ServiceError:
    """Refuse because what the resource belongs to is not registered on this platform."""
    named = resource_id(key)
    return ServiceError(
        Reason.REFERENCE_NOT_FOUND,
        f"{resource_type} {named} is not registered on platform {origin}: create it first",
        message_zh=f"平台 {origin} 尚未登记 {resource_type} {named}，请先登记",
        metadata={"resource_type": resource_type, "resource_id": named},
    )


def exists(resource_type: str, key: Iterable[Any], remedy: str) -> ServiceError:
    """Refuse a creation because the id is taken by other content."""
    named = resource_id(key)
    return ServiceError(
        Reason.RESOURCE_EXISTS,
        f"{resource_type} {named} exists with other content, which is kept: {remedy}",
        message_zh=f"{resource_type} {named} 已存在且内容不同，保留原内容",
        metadata={"resource_type": resource_type, "resource_id": named},
    )


def etag_mismatch(resource_type: str, key: Iterable[Any], sent: str, current: str) -> ServiceError:
    """Refuse an update because somebody was faster."""
    named = resource_id(key)
    return ServiceError(
        Reason.ETAG_MISMATCH,
        f"{resource_type} {named} was changed meanwhile: info.etag is {sent[:64]!r}, the current one is {current}; "
        "read it again and decide again",
        message_zh=f"{resource_type} {named} 已被他人修改，请重新读取后再提交",
        metadata={"etag": current},
    )


def not_owned(resource_type: str, key: Iterable[Any], origins: Sequence[str]) -> ServiceError:
    """Refuse an update because the resource is a copy from another platform."""
    named = resource_id(key)
    owners = ", ".join(origins)
    return ServiceError(
        Reason.NOT_OWNED,
        f"{resource_type} {named} belongs to platform {owners} and can be changed only there",
        message_zh=f"{resource_type} {named} 属于平台 {owners}，只能在该平台修改",
        metadata={"origin": origins[0]},
    )


def forged_page_token() -> ServiceError:
    """Refuse a page token that has the right shape and holds what no list puts into one."""
    return ServiceError(
        Reason.INVALID_PAGE_TOKEN,
        "page_token is not one that this list made: send the next_page_token of the previous answer, or none",
        message_zh="分页令牌无效：请使用上一页返回的令牌，或留空从头查询",
    )


def ambiguous(resource_type: str, key: Iterable[Any], origins: Sequence[str]) -> ServiceError:
    """Refuse a question for an id that several other platforms have."""
    candidates = ", ".join(origins[:ORIGINS_NAMED_MAX]) + (", …" if len(origins) > ORIGINS_NAMED_MAX else "")
    description = (
        f"is empty, but {resource_type} {resource_id(key)} is owned by several platforms; name one of {candidates}"
    )
    return invalid([FieldViolation("origin", description)])


ORIGINS_NAMED_MAX = 10
"""Candidates named in a refusal: a province may have a hundred, and a sentence stays a sentence."""


# Access


def outside_scope(field: str, named: str, bound_to: str) -> ServiceError:
    """Refuse what lies outside the units or the division that the caller is bound to."""
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        f"{field} names {named}, which lies outside {bound_to} that you are bound to: ask somebody who is not",
        message_zh=f"{field} 所指的 {named} 超出您的授权范围，请由上级授权人员办理",
        metadata={"field": field},
    )


def roles_conflict(roles: Sequence[str]) -> ServiceError:
    """Refuse two administrators in one credential."""
    named = ", ".join(roles)
    return ServiceError(
        Reason.ROLES_CONFLICT,
        f"{named} exclude each other (GB/T 22239): issue a credential to another person for each",
        message_zh=f"角色 {named} 不得由同一人兼任（GB/T 22239），请分别授予不同人员",
        metadata={"roles": ",".join(roles)},
    )


def credential_exists(credential_id: str) -> ServiceError:
    """Refuse a credential whose id is taken; ids are not used again, so that journals stay clear."""
    return ServiceError(
        Reason.RESOURCE_EXISTS,
        f"credential {credential_id} exists: choose another id, or rotate that credential for a new token",
        message_zh=f"凭证 {credential_id} 已存在：请换用其他编号，或轮换该凭证以获取新令牌",
        metadata={"resource_type": "credential", "resource_id": credential_id},
    )


def credential_changed(credential_id: str, sent: str, current: str) -> ServiceError:
    """Refuse an update because somebody was faster."""
    return ServiceError(
        Reason.ETAG_MISMATCH,
        f"credential {credential_id} was changed meanwhile: etag is {sent[:64]!r}, the current one is {current}; "
        "read it again and decide again",
        message_zh=f"凭证 {credential_id} 已被他人修改，请重新读取后再提交",
        metadata={"etag": current},
    )


def units_not_registered(missing: Sequence[str], platform: str) -> ServiceError:
    """Refuse to bind a credential to source units that this platform has not registered."""
    named = ", ".join(missing[:ORIGINS_NAMED_MAX]) + (", …" if len(missing) > ORIGINS_NAMED_MAX else "")
    return ServiceError(
        Reason.REFERENCE_NOT_FOUND,
        f"source unit {named} is not registered on platform {platform}: create it first",
        message_zh=f"平台 {platform} 尚未登记源头单位 {named}，请先登记",
        metadata={"resource_type": "source_unit", "resource_id": missing[0]},
    )


def division_not_below(division_code: str, platform: str) -> ServiceError:
    """Refuse to bind a credential to a division that the platform has nothing to do with."""
    return ServiceError(
        Reason.REFERENCE_NOT_FOUND,
        f"division {division_code} is neither {platform} nor registered below it: register it with its parent first",
        message_zh=f"区划 {division_code} 不是 {platform} 本级，也未登记为其下级，请先登记区划及其上级",
        metadata={"resource_type": "division", "resource_id": division_code},
    )


def credential_ended(credential_id: str, cause: str, remedy: str) -> ServiceError:
    """Refuse to change a credential that was revoked or has ended."""
    return ServiceError(
        Reason.CREDENTIAL_ENDED,
        f"credential {credential_id} {cause}: {remedy}",
        message_zh=f"凭证 {credential_id} 已吊销或已到期",
        metadata={"credential_id": credential_id},
    )


def last_administrator(credential_id: str, platform: str) -> ServiceError:
    """Refuse to leave the platform without a security administrator."""
    return ServiceError(
        Reason.LAST_ADMINISTRATOR,
        f"credential {credential_id} is the last valid one of a security administrator for platform {platform}: "
        "issue another one first",
        message_zh=f"凭证 {credential_id} 是平台 {platform} 最后一个有效的安全管理员凭证，请先签发另一个",
        metadata={"credential_id": credential_id},
    )


def own_credential(credential_id: str, field: str) -> ServiceError:
    """Refuse to change what the caller's own credential may do."""
    return ServiceError(
        Reason.OWN_CREDENTIAL,
        f"{field} of your own credential {credential_id} is changed by another security administrator",
        message_zh=f"本人凭证 {credential_id} 的 {field} 须由其他安全管理员变更",
        metadata={"credential_id": credential_id, "field": field},
    )


def overtaken(principal: str) -> ServiceError:
    """Refuse a change by somebody whose right to make it has ended since the call began."""
    return ServiceError(
        Reason.PERMISSION_MISSING,
        f"the right of {principal} to issue credentials has ended while this call was under way",
        message_zh="您签发凭证的权限在本次请求期间已失效",
        metadata={"permission": "CREDENTIAL_WRITE"},
    )


def bootstrap_over() -> ServiceError:
    """Refuse the first security administrator, whose time is over."""
    return ServiceError(
        Reason.CREDENTIAL_REVOKED,
        "the bootstrap token is accepted only while the platform has no valid credential of a security administrator, "
        "and now there is one: use that, and remove ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE",
        message_zh="本平台已有有效的安全管理员凭证，初始令牌不再有效，请改用该凭证并移除初始令牌文件",
        metadata={"credential_id": "bootstrap"},
    )


def too_many_uses(actual: int, limit: int) -> ServiceError:
    """Refuse a report of more uses than one message takes."""
    return ServiceError(
        Reason.BATCH_TOO_LARGE,
        f"the report holds {actual} uses, more than {limit}: send them in several reports",
        message_zh=f"单次上报 {actual} 条，超过上限 {limit}，请分批上报",
        metadata={"limit": str(limit), "actual": str(actual)},
    )
