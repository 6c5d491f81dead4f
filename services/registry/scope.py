"""What the caller of a registry method is bound to: source units, or a division with everything below it. The contract
of these methods says that they hold every item against it themselves.
"""

from dataclasses import dataclass, field
from typing import Self

from services.common.access.divisions import Divisions
from services.common.access.principal import Principal
from services.common.database import RawConnection
from services.registry import store


@dataclass(frozen=True, slots=True)
class Scope:
    """The bounds of one caller at one moment. A caller that is bound to nothing has neither units nor a division."""

    platform: str
    source_unit_ids: frozenset[str] | None = None
    """Units of this platform; None for a caller that is not bound to units."""
    division_code: str = ""
    """Empty for a caller that is not bound to a division, or to one that holds the whole platform."""
    divisions: Divisions = field(default_factory=Divisions)

    @classmethod
    def of(cls, connection: RawConnection, principal: Principal, platform: str, day: str) -> Self:
        """Return what the principal is bound to on a day, by the platform's own records of divisions."""
        if principal.source_unit_ids is not None:
            return cls(platform, source_unit_ids=principal.source_unit_ids)
        if principal.division_code in ("", platform):
            return cls(platform)
        divisions = own_divisions(connection, platform, day)
        if divisions.is_within(platform, principal.division_code):
            return cls(platform)
        return cls(platform, division_code=principal.division_code, divisions=divisions)

    @property
    def is_bound(self) -> bool:
        """Whether it bounds anything."""
        return self.source_unit_ids is not None or bool(self.division_code)

    @property
    def described(self) -> str:
        """What it is, for a refusal."""
        return "the source units" if self.source_unit_ids is not None else f"division {self.division_code}"

    def holds_division(self, code: str) -> bool:
        """Tell whether the caller may do everything in a division."""
        if self.source_unit_ids is not None:
            return False
        return not self.division_code or self.divisions.is_within(code, self.division_code)

    def may_name_division(self, code: str) -> bool:
        """Tell whether the caller may say that a division has to do with its own: it lies there, or above."""
        return self.holds_division(code) or (
            bool(self.division_code) and self.divisions.is_within(self.division_code, code)
        )

    def holds_unit(self, origin: str, source_unit_id: str, division_code: str) -> bool:
        """Tell whether a source unit, which lies in the division, is the caller's business."""
        if self.source_unit_ids is not None:
            # Another platform may have given the same id to another unit.
            return origin == self.platform and source_unit_id in self.source_unit_ids
        return self.holds_division(division_code)


def own_divisions(connection: RawConnection, platform: str, day: str) -> Divisions:
    """Return where divisions lie on a day, by the platform's own records."""
    placed = store.placements(connection, platform, day)
    return Divisions({code: parent for code, parent in placed.items() if parent is not None})
