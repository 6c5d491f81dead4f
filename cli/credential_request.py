"""Credentials as the command line names them: the options, and the message that they make."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from cli.credential_display import KINDS, ROLES

if TYPE_CHECKING:
    from zhichao.access.v1 import credential_pb2

# The three kinds that have credentials; platforms and services have other proofs.
CREDENTIAL_KINDS: Final = tuple(KINDS)[:3]

ROLE_OPTION: Final = click.option(
    "--role",
    "roles",
    type=click.Choice(tuple(ROLES)),
    metavar="ROLE",
    multiple=True,
    help=f"Role of a person; may be repeated: {', '.join(ROLES)}. 人员角色, 可多次使用。",
)
UNIT_OPTION: Final = click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="ID",
    help="Source unit that it is bound to; may be repeated. 绑定的源头单位。",
)
DIVISION_OPTION: Final = click.option(
    "--division", metavar="CODE", help="Division of a person's roles. 人员授权的区划。"
)
DAYS_OPTION: Final = click.option("--days", type=click.IntRange(1, 731), help="Days until it ends. 有效天数。")
NAME_OPTION: Final = click.option("--name", help="Who it is: a person, a firm, a terminal. 名称。")
LIMIT_OPTIONS: Final = (
    click.option("--calls-per-second", type=click.IntRange(0), help="Calls a second; 0 for the default. 每秒请求数。"),
    click.option("--burst-calls", type=click.IntRange(0), help="Calls at once beyond it. 突发请求数。"),
    click.option("--bytes-per-second", type=click.IntRange(0), help="Bytes a second. 每秒字节数。"),
)


def credential_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of everything that can be said about a credential; `credential_message` takes their values."""
    for option in reversed((NAME_OPTION, UNIT_OPTION, DIVISION_OPTION, ROLE_OPTION, DAYS_OPTION, *LIMIT_OPTIONS)):
        command = option(command)
    return command


def credential_message(
    credential_id: str,
    name: str | None,
    *,
    units: tuple[str, ...],
    division: str | None,
    roles: tuple[str, ...],
    days: int | None,
    calls_per_second: int | None,
    burst_calls: int | None,
    bytes_per_second: int | None,
) -> "credential_pb2.Credential":
    """Make the credential of what was named on the command line; what was not stays unset."""
    from zhichao.access.v1 import credential_pb2

    message = credential_pb2.Credential(
        credential_id=credential_id,
        display_name=name or "",
        source_unit_ids=units,
        division_code=division or "",
        roles=[credential_pb2.Role.ValueType(role_number(role)) for role in roles],
    )
    if days is not None:
        # The day is full only when it is over: the registry's clock may be a little ahead of ours.
        message.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days) - timedelta(minutes=1))
    limits = {
        "calls_per_second": calls_per_second,
        "burst_calls": burst_calls,
        "bytes_per_second": bytes_per_second,
    }
    if any(value is not None for value in limits.values()):
        message.limits.SetInParent()
        for field, value in limits.items():
            setattr(message.limits, field, value or 0)
    return message


def kind_number(kind: str | None) -> Any:
    """Return the number of a kind; that of none for None."""
    from zhichao.access.v1 import credential_pb2

    return credential_pb2.PrincipalKind.Value(f"PRINCIPAL_KIND_{kind.upper()}") if kind else 0


def role_number(role: str | None) -> Any:
    """Return the number of a role; that of none for None."""
    from zhichao.access.v1 import credential_pb2

    return credential_pb2.Role.Value(f"ROLE_{role.upper().replace('-', '_')}") if role else 0
