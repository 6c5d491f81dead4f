"""What `zhichao platform` and `zhichao division` ask of the registry: shared by both."""

from collections.abc import Callable
from typing import Any, Final

import click

CALL_SECONDS_MAX: Final = 10.0
"""A place is written in milliseconds, across a province in tens of them."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

PAGE_SIZE: Final = 1_000

DAY: Final = click.DateTime(("%Y-%m-%d",))

_NO_DAY: Final = "none"

Command = Callable[..., None]


class DayOrNone(click.ParamType[str]):
    """A day as `2026-07-01`, or `none` to take one away."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the day as the registry writes it; empty for none."""
        if value == _NO_DAY:
            return ""
        return f"{DAY.convert(value, param, ctx):%Y-%m-%d}"


VALID_FROM: Final = click.option(
    "--from",
    "valid_from",
    type=DayOrNone(),
    help="First day, as 2026-07-01; none for always. 起始日期, none 表示不限。",
)
VALID_UNTIL: Final = click.option(
    "--until",
    "valid_until",
    type=DayOrNone(),
    help="First day on which it is over; none for no end. 截止日期(不含), none 表示不限。",
)
LIMIT: Final = click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="At most so many. 最多条数。",
)


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that were named on the command line."""
    return {name: value for name, value in fields.items() if value is not None}


def changes(**fields: Any) -> dict[str, Any]:
    """Return the fields that are to be changed. Raises click.UsageError if there are none."""
    found = given(**fields)
    if not found:
        raise click.UsageError("nothing changes: name what should by an option (--help lists them) 未指定变更内容")
    return found
