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
