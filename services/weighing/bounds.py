"""Whose records a caller may send: those of its own source units, or of the units within its division."""

from dataclasses import dataclass, field
from typing import Final, Self

from services.common.access.divisions import Divisions
from services.common.access.principal import Principal
from services.common.errors import ServiceError
from services.common.reasons import Reason

_SHOWN_CHARACTERS_MAX: Final = 40
"""Characters of a refused id in the message: ids have at most 32."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the records of one call are held against, one by one."""

    source_unit_ids: frozenset[str] | None = None
    """None for a caller that is not bound to units."""
    division_code: str = ""
    """Empty for a caller that is not bound to a division."""
    divisions: Divisions = field(default_factory=Divisions)

    @classmethod
    def of(cls, principal: Principal, platform: str, divisions: Divisions) -> Self:
        """Return what a principal is bound to, where divisions lie as the platform has recorded it."""
        division = principal.division_code
        if division and divisions.is_within(platform, division):
            division = ""
        return cls(principal.source_unit_ids, division, divisions)

    def outside_units(self, source_unit_id: str) -> ServiceError:
        """Make the refusal of a record of another unit."""
        shown = source_unit_id[:_SHOWN_CHARACTERS_MAX]
        return ServiceError(
            Reason.OUTSIDE_SCOPE,
            f"record.source_unit_id: {shown!r} is not one of the source units of this credential: send the record with "
            "the credential of its unit",
            message_zh=f"源头单位 {shown!r} 不在该凭证的授权范围内，请使用该单位的凭证上报",
            metadata={"field": "record.source_unit_id"},
        )

    def check_division(self, source_unit_id: str, division_code: str) -> None:
        """Refuse a record of a unit that lies outside the caller's division. Raises ServiceError OUTSIDE_SCOPE."""
        if self.division_code and not self.divisions.is_within(division_code, self.division_code):
            shown = source_unit_id[:_SHOWN_CHARACTERS_MAX]
            raise ServiceError(
                Reason.OUTSIDE_SCOPE,
                f"record.source_unit_id: {shown!r} lies in division {division_code}, this credential is for "
                f"{self.division_code} and below",
                message_zh=f"源头单位 {shown!r} 位于 {division_code}，超出该凭证的区划范围 {self.division_code}",
                metadata={"field": "record.source_unit_id"},
            )


UNBOUND: Final = Bounds()
"""Any unit of this platform."""
