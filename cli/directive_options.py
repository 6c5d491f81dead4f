"""Options that notices and duty checks share: to whom, who speaks, which ones to list."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from services.common.china_time import CHINA_TIME

if TYPE_CHECKING:
    from zhichao.enforcement.v1 import directive_pb2, service_pb2

DIRECTIONS: Final = ("issued", "received", "observed")
STANDINGS: Final = ("open", "overdue", "settled")

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 10_000
"""Rows that a command fetches: years of a province's notices, in pages of 200."""

PAGE_SIZE: Final = 200

_ID_BYTES: Final = 4

Command = TypeVar("Command", bound=Callable[..., Any])


class LocalTime(click.ParamType[datetime]):
    """A moment: `YYYY-MM-DD HH:MM` in China Standard Time, or with an offset as ISO 8601 writes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or refuse it with what would be right."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write 2025-03-05 18:00 (China Standard Time) 时间格式不正确", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=CHINA_TIME)).astimezone(UTC)


def issue_options(command: Command) -> Command:
    """Add what every directive takes; `addressing` and `officer_message` read it."""
    for option in reversed(
        (
            click.option("--id", "directive_id", default="", metavar="ID", help="Its id; made if none. 编号。"),
            click.option(
                "--to",
                "audiences",
                multiple=True,
                required=True,
                metavar="CODE",
                help="Division that it goes to, with all below it; may be repeated. The platform's own means "
                "everybody below. 下发区划, 可多次使用; 本平台代码表示全部下级。",
            ),
            click.option(
                "--highest-only",
                is_flag=True,
                help="Only the highest platform of each division is asked; those below it get a copy. "
                "仅由各区划最高一级平台应答, 其下级抄送。",
            ),
            click.option(
                "--allow-missing-platforms",
                is_flag=True,
                help="Also where no platform is registered yet. 允许区划尚无登记平台。",
            ),
            click.option("--officer", default="", metavar="NAME", help="Who issues it. 签发人。"),
            click.option("--phone", default="", metavar="NUMBER", help="Their phone number. 联系电话。"),
        )
    ):
        command = option(command)
    return command


def respond_options(command: Command) -> Command:
    """Add what every response takes."""
    for option in reversed(
        (
            click.option("--issuer", required=True, metavar="CODE", help="Platform that issued it. 下发平台。"),
            click.option("--officer", required=True, metavar="NAME", help="Who responds. 应答人。"),
            click.option("--phone", default="", metavar="NUMBER", help="Their phone number. 联系电话。"),
        )
    ):
        command = option(command)
    return command


def list_options(command: Command) -> Command:
    """Add what lists narrow by; `filter_message` reads it."""
    for option in reversed(
        (
            click.option(
                "--direction",
                type=click.Choice(DIRECTIONS),
                help="Issued here, received from above, or passing by. 本平台下发、收到的, 或经过的。",
            ),
            click.option(
                "--standing",
                type=click.Choice(STANDINGS),
                help="Open, overdue, or settled. 待应答、已逾期或已办结。",
            ),
            click.option("--issuer", default="", metavar="CODE", help="Only of this platform. 仅此平台下发。"),
            click.option("--division", default="", metavar="CODE", help="Only recipients there. 仅此区划内的对象。"),
            click.option("--since", type=LocalTime(), help="Issued then or later. 起始下发时间。"),
            click.option("--until", type=LocalTime(), help="Issued before then. 截止下发时间(不含)。"),
            click.option(
                "--limit",
                type=click.IntRange(1, LIMIT_MAX),
                default=LIMIT_DEFAULT,
                show_default=True,
                help="At most so many, the newest. 最多条数。",
            ),
        )
    ):
        command = option(command)
    return command


def made_id(prefix: str) -> str:
    """Make an id from the time and a little chance: two persons at the same second do not meet."""
    return f"{prefix}-{datetime.now(CHINA_TIME):%Y%m%d-%H%M%S}-{secrets.token_hex(_ID_BYTES)}"


def scope_number(*, highest_only: bool) -> "directive_pb2.RecipientScope.ValueType":
    """Return who in an audience is asked."""
    from zhichao.enforcement.v1 import directive_pb2

    return directive_pb2.RECIPIENT_SCOPE_DIVISION if highest_only else directive_pb2.RECIPIENT_SCOPE_SUBTREE


def officer_message(name: str, phone: str) -> "directive_pb2.Officer | None":
    """Return the officer, or None when nobody is named."""
    from zhichao.enforcement.v1 import directive_pb2

    return directive_pb2.Officer(name=name, phone_number=phone) if name or phone else None


def filter_message(
    direction: str | None, standing: str | None, issuer: str, since: datetime | None, until: datetime | None
) -> "service_pb2.DirectiveFilter":
    """Return what a list narrows by."""
    from zhichao.enforcement.v1 import directive_pb2, service_pb2

    narrow = service_pb2.DirectiveFilter(
        direction=directive_pb2.Direction.Value(f"DIRECTION_{(direction or 'unspecified').upper()}"),
        standing=directive_pb2.Standing.Value(f"STANDING_{(standing or 'unspecified').upper()}"),
        issuer=issuer,
    )
    if since is not None:
        narrow.start_time.FromDatetime(since)
    if until is not None:
        narrow.end_time.FromDatetime(until)
    return narrow
