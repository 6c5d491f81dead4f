"""What a check of a bundle may find wrong. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    place: str
    """Which file of the bundle, or which part of the zip."""
    detail: str
