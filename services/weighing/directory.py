"""What the weighing service knows of the registry: which scale stands where, what it is certified for, which rules
judge it.

Pure but for its memory. Objects go in as they are journalled by the registry; a site comes out, or the reason why
there is none.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.common.access.divisions import Divisions
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.weighing.rows import day_text, pack_site
from services.weighing.rule_sets import AddressedRuleSet, RuleSets
from services.weighing.rules import RuleSet
from services.weighing.verdict import CompiledRules, Judgement

SITES_CACHED_MAX: Final = 2_048
"""Sites kept resolved, one per scale and day: a heavy county's 340 scales for six days; the cache is emptied when it is
full."""

JUDGEMENTS_PER_SITE_MAX: Final = 128
"""Serialised judgements kept with a site: vehicles differ by some dozens of facts. With half a kilobyte each and all
sites full it is 130 MB."""


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """A source unit as far as a weighing needs it."""

    source_unit_id: str
    division_code: str
    rule_set_id: str


@dataclass(frozen=True, slots=True)
class WeighingPoint:
    """A weighing point."""

    source_unit_id: str
    weighing_point_id: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale."""

    source_unit_id: str
    weighing_point_id: str
    scale_id: str
    kind: int
    capacity_kg: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A verification certificate; both days count as valid."""

    source_unit_id: str
    scale_id: str
    certificate_number: str
    valid_from: str
    valid_until: str


DirectoryObject = SourceUnit | WeighingPoint | Scale | Certificate | RuleSet | AddressedRuleSet | Divisions


@dataclass(slots=True)
class Site:
    """A scale on one day, with everything that judging needs, resolved once."""

    division_code: str
    scale_kind: int
    capacity_kg: int
    certificate_number: str
    rules: CompiledRules
    rule_set_origin: str
    """Platform above that published the rules; empty for this platform's own."""
    is_in_force: bool
    """False when no version of the rule set was in force on that day and the nearest one judges instead."""
    packed: bytes
    judgements: dict[int, tuple[Judgement, bytes]] = field(default_factory=dict)
    """Serialised judgements by identity of the judgement, which is kept beside so that the identity stays its own."""
    judgements_by_value: dict[Judgement, bytes] = field(default_factory=dict)
    """The same by value: trucks with measured axles get a judgement each, but the same few values come again."""


class Directory:
    """The objects of the registry by key. Threads may share it; a change empties the resolved sites."""

    def __init__(self, rule_set_id_default: str, platform: str) -> None:
        self.rule_set_id_default = rule_set_id_default
        self.platform = platform
        self._newest: dict[tuple[str, ...], tuple[int, DirectoryObject]] = {}
        self._version = 0
        self._units: dict[str, SourceUnit] = {}
        self._points: set[tuple[str, str]] = set()
        self._scales: dict[tuple[str, str], Scale] = {}
        self._certificates: dict[tuple[str, str], dict[str, Certificate]] = {}
        self._rule_sets = RuleSets(platform)
        self._sites: dict[tuple[str, str, str, int], Site] = {}
        self._guard = threading.Lock()

    def put(self, changed: DirectoryObject) -> None:
        """Take an object's newest state."""
        with self._guard:
            match changed:
                case SourceUnit():
                    self._units[changed.source_unit_id] = changed
                case WeighingPoint():
                    self._points.add((changed.source_unit_id, changed.weighing_point_id))
                case Scale():
                    self._scales[changed.source_unit_id, changed.scale_id] = changed
                case Certificate():
                    key = (changed.source_unit_id, changed.scale_id)
                    # New dictionaries: a thread that resolves a site may be going through the old ones.
                    self._certificates[key] = {**self._certificates.get(key, {}), changed.certificate_number: changed}
                case RuleSet():
                    self._rule_sets.put_own(changed)
                case AddressedRuleSet():
                    if not self._rule_sets.put_addressed(changed):
                        return
                case Divisions():
                    self._rule_sets.divisions = changed
            self._version += 1
            self._newest[_key(changed)] = (self._version, changed)
            # A new dictionary, so that a thread that resolves meanwhile cannot put an old site into it.
            self._sites = {}

    def counts(self) -> Mapping[str, int]:
        """Return how many objects of each kind are known, for the log."""
        rule_sets = self.rule_set_counts()
        own = rule_sets.get(self.platform, 0)
        return {
            "units": len(self._units),
            "scales": len(self._scales),
            "rule_sets": own,
            "rule_sets_from_above": sum(rule_sets.values()) - own,
        }

    def rule_set_counts(self) -> Mapping[str, int]:
        """Return how many versions of rule sets are known, by the platform that published them."""
        with self._guard:
            return self._rule_sets.counts()

    def changes_since(self, version: int) -> tuple[int, list[DirectoryObject]]:
        """Return the version now, and the newest state of what changed after another one; everything after 0."""
        if version == self._version:
            return version, []
        with self._guard:
            return self._version, [changed for changed_at, changed in self._newest.values() if changed_at > version]

    def site(self, source_unit_id: str, weighing_point_id: str, scale_id: str, day: int) -> Site:
        """Return the site of a scale on a day (number of days since 1970-01-01, China Standard Time).

        Raises ServiceError UNKNOWN_SOURCE_UNIT, UNKNOWN_WEIGHING_POINT, UNKNOWN_SCALE or NO_RULE_SET.
        """
        sites = self._sites
        site = sites.get((source_unit_id, weighing_point_id, scale_id, day))
        if site is None:
            site = self._resolve(source_unit_id, weighing_point_id, scale_id, day_text(day))
            if len(sites) >= SITES_CACHED_MAX:
                sites.clear()
            sites[source_unit_id, weighing_point_id, scale_id, day] = site
        return site

    def _resolve(self, source_unit_id: str, weighing_point_id: str, scale_id: str, day: str) -> Site:
        unit = self._units.get(source_unit_id)
        if unit is None:
            raise ServiceError(
                Reason.UNKNOWN_SOURCE_UNIT,
                f"source unit {source_unit_id!r} is not registered on this platform: register it first",
                message_zh=f"源头单位 {source_unit_id!r} 未在本平台登记，请先登记",
                metadata={"source_unit_id": source_unit_id},
            )
        if (source_unit_id, weighing_point_id) not in self._points:
            raise ServiceError(
                Reason.UNKNOWN_WEIGHING_POINT,
                f"source unit {source_unit_id!r} has no weighing point {weighing_point_id!r}: register it first",
                message_zh=f"源头单位 {source_unit_id!r} 没有称重点 {weighing_point_id!r}，请先登记",
                metadata={"weighing_point_id": weighing_point_id},
            )
        scale = self._scales.get((source_unit_id, scale_id))
        if scale is None or scale.weighing_point_id != weighing_point_id:
            raise ServiceError(
                Reason.UNKNOWN_SCALE,
                f"weighing point {weighing_point_id!r} of {source_unit_id!r} has no scale {scale_id!r}: "
                "register it first",
                message_zh=f"称重点 {weighing_point_id!r} 没有衡器 {scale_id!r}，请先登记",
                metadata={"scale_id": scale_id},
            )
        rule_set_id = unit.rule_set_id or self.rule_set_id_default
        chosen = self._rule_sets.choose(rule_set_id, unit.division_code, day)
        if chosen is None:
            raise ServiceError(
                Reason.NO_RULE_SET,
                f"rule set {rule_set_id!r} is held neither of this platform nor of one above: publish it, wait until "
                "it has come down, or name another one for the unit",
                message_zh=f"本平台没有规则集 {rule_set_id!r}，上级亦未下发，请发布、等待下发或为该单位指定其他规则集",
                metadata={"rule_set_id": rule_set_id},
            )
        certificates = self._certificates.get((source_unit_id, scale_id), {}).values()
        valid = [one for one in certificates if one.valid_from <= day <= one.valid_until]
        return Site(
            division_code=unit.division_code,
            scale_kind=scale.kind,
            capacity_kg=scale.capacity_kg,
            # Of several valid certificates the one that lasts longest was issued last.
            certificate_number=max(valid, key=lambda one: one.valid_until).certificate_number if valid else "",
            rules=chosen.rules,
            rule_set_origin="" if chosen.owner == self.platform else chosen.owner,
            is_in_force=chosen.is_in_force,
            packed=pack_site(source_unit_id, weighing_point_id, scale_id),
        )


def _key(changed: DirectoryObject) -> tuple[str, ...]:
    match changed:
        case SourceUnit():
            return "unit", changed.source_unit_id
        case WeighingPoint():
            return "point", changed.source_unit_id, changed.weighing_point_id
        case Scale():
            return "scale", changed.source_unit_id, changed.scale_id
        case Certificate():
            return "certificate", changed.source_unit_id, changed.scale_id, changed.certificate_number
        case RuleSet():
            return "rule-set", changed.rule_set_id, str(changed.version)
        case AddressedRuleSet():
            rule_set = changed.rule_set
            return "addressed-rule-set", changed.origin, rule_set.rule_set_id, str(rule_set.version)
        case Divisions():
            return ("divisions",)
