"""Warnings on resources, made when a resource is read: they follow from its content and from what is registered now,
so a warning goes away with its cause.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from services.common.access.divisions import Divisions
from services.common.database import RawConnection
from services.registry import store
from services.registry.convert import AnyResource
from services.registry.forms import Violation
from services.registry.kinds import Kind
from services.registry.scope import own_divisions
from zhichao.registry.v1 import resources_pb2 as pb


@dataclass(frozen=True, slots=True)
class Doubts:
    """What some resources of one kind name that is not registered."""

    kind: Kind[Any]
    unregistered_divisions: set[str]
    unknown_rule_sets: set[tuple[str, str]]

    @classmethod
    def look_up(
        cls,
        connection: RawConnection,
        kind: Kind[Any],
        held: Sequence[tuple[str, AnyResource]],
        platform: str,
        day: str,
    ) -> Self:
        """Look up what these resources, each with its owner, name on a day: some queries for a whole page."""
        codes = {code for _, message in held for code in _division_codes(kind, message)}
        rule_sets = {
            (origin, message.rule_set_id)
            for origin, message in held
            if isinstance(message, pb.SourceUnit) and message.rule_set_id
        }
        return cls(
            kind,
            store.unregistered_divisions(connection, codes),
            _unknown_rule_sets(connection, rule_sets, platform, day),
        )

    def of(self, origin: str, message: AnyResource) -> list[Violation]:
        """Return everything doubtful about one of the resources.

        A copy may hold what this release would refuse; that is told too, instead of hiding the copy.
        """
        findings = self.kind.examine(message)
        found = [*findings.violations, *findings.doubts]
        found += [
            Violation(field, f"names {code}, which is not registered as a division")
            for field in self.kind.division_fields
            if (code := getattr(message, field)) in self.unregistered_divisions
        ]
        if isinstance(message, pb.SourceUnit) and (origin, message.rule_set_id) in self.unknown_rule_sets:
            description = f"names {message.rule_set_id}, which neither platform {origin} nor one above it has published"
            found.append(Violation("rule_set_id", description))
        return found


def _division_codes(kind: Kind[Any], message: AnyResource) -> list[str]:
    return [code for field in kind.division_fields if (code := getattr(message, field))]


def _unknown_rule_sets(
    connection: RawConnection, named: set[tuple[str, str]], platform: str, day: str
) -> set[tuple[str, str]]:
    """Return those pairs of owner and rule set that nobody has published for the owner: neither it nor one above it."""
    unknown = store.unknown_rule_sets(connection, named)
    if not unknown:
        return unknown
    publishers = store.publishers(connection, {rule_set_id for _, rule_set_id in unknown})
    divisions = own_divisions(connection, platform, day) if publishers else Divisions()
    return {
        (owner, rule_set_id)
        for owner, rule_set_id in unknown
        if not any(divisions.is_within(owner, publisher) for publisher in publishers.get(rule_set_id, ()))
    }
