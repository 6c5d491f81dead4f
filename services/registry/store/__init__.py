"""Every SQL statement of the registry, by noun: resources, and credentials. Runs in the caller's transaction."""

from services.registry.store.resources import (
    TABLES,
    NewRow,
    ResourceTable,
    Row,
    newest_version,
    unknown_rule_sets,
    unregistered_divisions,
)

__all__ = [
    "TABLES",
    "NewRow",
    "ResourceTable",
    "Row",
    "newest_version",
    "unknown_rule_sets",
    "unregistered_divisions",
]
