"""Which rule set judges: of several platforms that have published one under the same id, and of its versions. Pure.

Rule sets of platforms above come down addressed to a division. Of two owners the nearer one judges, and within an owner
the newest version in force; versions of two owners are never taken for those of one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.common.access.divisions import LEVELS_MAX, Divisions
from services.weighing.rules import RuleSet
from services.weighing.verdict import CompiledRules


@dataclass(frozen=True, slots=True)
class AddressedRuleSet:
    """A version of a rule set that a platform above has published for a division."""

    origin: str
    sequence: int
    """Place in the origin's registry log; of two entries about one version the higher one counts."""
    audience: str
    rule_set: RuleSet


@dataclass(frozen=True, slots=True)
class ChosenRules:
    """The version that judges, who published it, and whether it was in force on the day."""

    owner: str
    rules: CompiledRules
    is_in_force: bool


@dataclass(frozen=True, slots=True)
class _Version:
    rules: CompiledRules
    audience: str
    """Division that it is meant for; empty for one of this platform, which judges whatever names it."""
    sequence: int


class RuleSets:
    """All rule sets known to one platform. Not locked: whoever changes them replaces, so that readers may go on."""

    def __init__(self, platform: str) -> None:
        self.divisions = Divisions()
        self._platform = platform
        self._owners: dict[str, dict[str, dict[int, _Version]]] = {}

    def counts(self) -> dict[str, int]:
        """Return how many versions are known of each owner, ordered by owner."""
        counted: Counter[str] = Counter()
        for owners in self._owners.values():
            counted.update({owner: len(versions) for owner, versions in owners.items()})
        return dict(sorted(counted.items()))

    def put_own(self, rule_set: RuleSet) -> None:
        """Take a version that this platform has published."""
        self._put(self._platform, _Version(CompiledRules(rule_set), "", 0))

    def put_addressed(self, changed: AddressedRuleSet) -> bool:
        """Take a version of a platform above. False, and nothing changes, when a later word on it is held."""
        rule_set = changed.rule_set
        held = self._owners.get(rule_set.rule_set_id, {}).get(changed.origin, {}).get(rule_set.version)
        if held is not None and held.sequence > changed.sequence:
            return False
        self._put(changed.origin, _Version(CompiledRules(rule_set), changed.audience, changed.sequence))
        return True

    def _put(self, owner: str, version: _Version) -> None:
        rule_set = version.rules.rule_set
        owners = self._owners.get(rule_set.rule_set_id, {})
        # New dictionaries: a thread that chooses may be going through the old ones.
        versions = {**owners.get(owner, {}), rule_set.version: version}
        self._owners[rule_set.rule_set_id] = {**owners, owner: versions}

    def choose(self, rule_set_id: str, division_code: str, day: str) -> ChosenRules | None:
        """Return what judges on a day, `YYYY-MM-DD`, at a unit in a division; None if nobody has published it.

        It is the nearest owner's newest version in force, this platform's before those of platforms above. If none was
        in force anywhere, the nearest owner's nearest version judges: a terminal whose clock stands years back must not
        escape judgement.
        """
        owners = self._owners.get(rule_set_id, {})
        nearest: ChosenRules | None = None
        for owner in self._nearest_first():
            versions = {
                number: one.rules
                for number, one in owners.get(owner, {}).items()
                if self._is_meant(one.audience, division_code)
            }
            in_force = [number for number, rules in versions.items() if rules.rule_set.is_effective_on(day)]
            if in_force:
                return ChosenRules(owner, versions[max(in_force)], is_in_force=True)
            if versions and nearest is None:
                nearest = ChosenRules(owner, _nearest_version(versions, day), is_in_force=False)
        return nearest

    def _nearest_first(self) -> Iterator[str]:
        code = self._platform
        for _ in range(LEVELS_MAX):
            yield code
            code = self.divisions.above(code)
            if not code:
                return

    def _is_meant(self, audience: str, division_code: str) -> bool:
        """Tell whether rules are for units there: a city also holds what it only passes on to one of its counties."""
        return (
            not audience
            or self.divisions.is_within(self._platform, audience)
            or self.divisions.is_within(division_code, audience)
        )


def _nearest_version(versions: Mapping[int, CompiledRules], day: str) -> CompiledRules:
    """Return the version to judge with when none was in force: the first one later, or else the last one."""
    later = [rules for rules in versions.values() if rules.rule_set.effective_from > day]
    if later:
        return min(later, key=lambda rules: (rules.rule_set.effective_from, -rules.rule_set.version))
    return max(versions.values(), key=lambda rules: (rules.rule_set.effective_from, rules.rule_set.version))
