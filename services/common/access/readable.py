"""Of which platforms a caller may read what several platforms have written: for methods that bind callers to units."""

from typing import Final

from services.common.access.principal import Principal
from services.common.errors import ServiceError
from services.common.reasons import Reason

_SHOWN_CHARACTERS_MAX: Final = 40
"""Characters of a refused code in the message: codes have six."""


def readable_origin(principal: Principal, platform: str, origin: str, field: str) -> str:
    """Return the origin that a caller reads when it names one, or none; empty for all.

    A caller that is bound to units reads what this platform owns: another one may have given the same id to another
    unit. Raises ServiceError OUTSIDE_SCOPE when it names another one.
    """
    if principal.source_unit_ids is None:
        return origin
    if origin not in ("", platform):
        raise ServiceError(
            Reason.OUTSIDE_SCOPE,
            f"{field}: {origin[:_SHOWN_CHARACTERS_MAX]!r} is another platform; your source units are those of "
            f"{platform}: leave it out",
            message_zh=f"字段 {field} 超出授权范围：该凭证的源头单位属于平台 {platform}",
            metadata={"field": field},
        )
    return platform
