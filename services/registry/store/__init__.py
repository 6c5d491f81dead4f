"""Every SQL statement of the registry, by noun: resources here, credentials in a module of their own. Runs in the
caller's transaction.
"""

from services.registry.store.resources import (
    TABLES,
    NewRow,
    ResourceTable,
    Restriction,
    Row,
    divisions_of_units,
    newest_version,
    placements,
    platforms_after,
    publishers,
    unit_divisions,
    unknown_rule_sets,
    unregistered_divisions,
)

__all__ = [
    "TABLES",
    "NewRow",
    "ResourceTable",
    "Restriction",
    "Row",
    "divisions_of_units",
    "newest_version",
    "placements",
    "platforms_after",
    "publishers",
    "unit_divisions",
    "unknown_rule_sets",
    "unregistered_divisions",
]
