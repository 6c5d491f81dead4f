"""Page sizes and opaque page tokens. A token holds where the last page ended and for which filter; it is not a secret
and not signed, so what comes out of it is checked like any other input.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason

PageKey = tuple[str | int, ...]

Item = TypeVar("Item")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# Longest key today: a division code, an id of 64 characters and two numbers; ten times that is generous.
TOKEN_CHARACTERS_MAX = 2048
# Raised when the meaning of a token changes; older tokens are then refused and the caller starts over.
TOKEN_VERSION = 1
# 96 bits: no two filters meet by accident, and the token stays short.
FILTER_DIGEST_BYTES = 12
# Keys go into bigint columns.
KEY_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_page_token: str


def filter_digest(method: str, *values: str | int | bool | None) -> str:
    """Digest the list and every filter value of it, in a fixed order; the page size is not part of it."""
    text = json.dumps([method, *values], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:FILTER_DIGEST_BYTES].hex()


def encode_token(filter_digest: str, key: Sequence[str | int]) -> str:
    """Make the token of the page after `key`, the sort key of the last row of this page."""
    text = json.dumps([TOKEN_VERSION, filter_digest, list(key)], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, filter_digest: str, shape: Sequence[type[str] | type[int]]) -> PageKey | None:
    """Read the key that a page starts after; None for the first page (an empty token).

    `shape` lists the types of the key's parts. Refused with INVALID_PAGE_TOKEN: a token that this list did not make,
    or that was made for another filter.
    """
    if not token:
        return None
    content = _read(token)
    if content is None or len(content) != 3 or content[0] != TOKEN_VERSION:
        raise _refusal("is not one that this list made")
    if content[1] != filter_digest:
        raise _refusal("was made for another filter")
    key = content[2]
    if not isinstance(key, list) or len(key) != len(shape):
        raise _refusal("is not one that this list made")
    for part, kind in zip(key, shape, strict=True):
        # type() and not isinstance(): true is not a number here.
        if type(part) is not kind or (isinstance(part, int) and not -KEY_INTEGER_MAX <= part <= KEY_INTEGER_MAX):
            raise _refusal("is not one that this list made")
        if isinstance(part, str) and not _is_storable(part):
            raise _refusal("is not one that this list made")
    return tuple(key)


def time_key(moment: datetime) -> int:
    """Return a time as a part of a key: whole microseconds since 1970, exact, which a float is not."""
    return (moment - _EPOCH) // _MICROSECOND


def key_time(part: str | int) -> datetime:
    """Return the time that a part of a key stands for. Refused with INVALID_PAGE_TOKEN: what no list puts there."""
    try:
        return _EPOCH + int(part) * _MICROSECOND
    except OverflowError as error:
        raise _refusal("is not one that this list made") from error


def page_size(requested: int, default: int, maximum: int) -> int:
    """Return how many items a page may hold: 0 means `default`, more than `maximum` means `maximum` (AIP-158).

    Refused with INVALID_ARGUMENT: a negative number.
    """
    if requested < 0:
        raise invalid([FieldViolation("page_size", f"is {requested}, but must be 0 (for {default}) to {maximum}")])
    return min(requested, maximum) or default


def _is_storable(text: str) -> bool:
    """Say whether PostgreSQL takes the text: no zero byte, and no half of a surrogate pair, which JSON can name."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _read(token: str) -> list[object] | None:
    if len(token) > TOKEN_CHARACTERS_MAX:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return content if isinstance(content, list) else None


def _refusal(what: str) -> ServiceError:
    return ServiceError(
        Reason.INVALID_PAGE_TOKEN,
        f"page_token {what}: send the next_page_token of the previous answer with the same filter, or none",
        message_zh="分页令牌无效：请使用上一页返回的令牌并保持筛选条件不变，或留空从头查询",
        field_violations=[FieldViolation("page_token", what)],
    )
