"""What `zhichao credential` and `zhichao whoami` show."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.table import Table
from rich.text import Text

from services.common.china_time import CHINA_TIME
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.access.v1 import service_pb2
from zhichao.common.v1 import access_pb2

ENDS_SOON: Final = timedelta(days=30)
"""A credential that ends within this is shown in yellow: time to rotate or extend it."""

KINDS: Final[Mapping[str, str]] = {
    "terminal": "终端",
    "integrator": "集成商",
    "person": "人员",
    "platform": "平台",
    "service": "服务",
}
ROLES: Final[Mapping[str, str]] = {
    "viewer": "查看人员",
    "registrar": "登记人员",
    "standards-officer": "标准管理员",
    "officer": "执法人员",
    "data-steward": "补录员",
    "system-administrator": "系统管理员",
    "security-administrator": "安全管理员",
    "auditor": "审计员",
}

# An integrator may have a thousand; `--json` names them all.
_UNITS_SHOWN_MAX: Final = 3


def kind_name(number: int) -> str:
    """Return the name of a kind as options take it; the number of one that this release does not know."""
    try:
        return pb.PrincipalKind.Name(pb.PrincipalKind.ValueType(number)).removeprefix("PRINCIPAL_KIND_").lower()
    except ValueError:
        return str(number)


def role_name(number: int) -> str:
    """Return the name of a role as options take it; the number of one that this release does not know."""
    try:
        return pb.Role.Name(pb.Role.ValueType(number)).removeprefix("ROLE_").lower().replace("_", "-")
    except ValueError:
        return str(number)


def as_document(credential: pb.Credential) -> dict[str, Any]:
    """Return a credential as JSON shows it."""
    document = MessageToDict(credential, preserving_proto_field_name=True)
    return {
        **document,
        "kind": kind_name(credential.kind),
        "roles": [role_name(role) for role in credential.roles],
        "state": state(credential, datetime.now(UTC)),
    }


def state(credential: pb.Credential, now: datetime) -> str:
    """Return whether a credential is valid, revoked or ended."""
    if credential.HasField("revoke_time"):
        return "revoked"
    return "ended" if credential.expire_time.ToDatetime(tzinfo=UTC) <= now else "valid"


def credential_table(credentials: Sequence[pb.Credential], now: datetime) -> Table:
    """Make the table of credentials. Cells have several lines, so that an id is whole in a terminal of 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # As `zhichao up` makes the longest; longer ones that people choose take two lines.
    table.add_column(
        "Id\n编号", overflow="fold", min_width=min(30, max(map(len, (one.credential_id for one in credentials))))
    )
    table.add_column("Kind\n类型", no_wrap=True)
    table.add_column("Name, bound to, roles\n名称、授权范围、角色")
    table.add_column("Ends, last use\n到期、最近使用", no_wrap=True)
    table.add_column("State\n状态", no_wrap=True)
    for one in credentials:
        roles = ", ".join(role_name(role) for role in one.roles)
        last_use = local_time(one.last_use_time) if one.HasField("last_use_time") else "-"
        state_told = state_text(one, now)
        table.add_row(
            one.credential_id,
            f"{kind_name(one.kind)}\n{KINDS.get(kind_name(one.kind), '')}",
            "\n".join(line for line in (one.display_name, bound_to(one), roles) if line),
            f"{local_day(one.expire_time)}\n{last_use}",
            Text("\n".join(state_told.plain.rsplit(" ", 1)), state_told.style),
        )
    return table


def credential_facts(credential: pb.Credential, now: datetime) -> Table:
    """Make the description of one credential."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    limits = credential.limits
    rows: list[tuple[str, str | Text]] = [
        ("Id 编号", credential.credential_id),
        ("Issued by 签发平台", credential.origin),
        ("Kind 类型", f"{kind_name(credential.kind)} {KINDS.get(kind_name(credential.kind), '')}"),
        ("Name 名称", credential.display_name),
        ("Bound to 授权范围", bound_to(credential, units_max=len(credential.source_unit_ids))),
        ("Roles 角色", ", ".join(f"{role_name(role)} {ROLES.get(role_name(role), '')}" for role in credential.roles)),
        ("Calls a second 每秒请求", str(limits.calls_per_second) if limits.calls_per_second else ""),
        ("Burst 突发请求", str(limits.burst_calls) if limits.burst_calls else ""),
        ("Bytes a second 每秒字节", str(limits.bytes_per_second) if limits.bytes_per_second else ""),
        ("Issued 签发时间", local_time(credential.create_time)),
        ("Ends 到期时间", local_time(credential.expire_time)),
        ("Last use 最近使用", local_time(credential.last_use_time) if credential.HasField("last_use_time") else "-"),
        ("State 状态", state_text(credential, now)),
    ]
    if credential.HasField("revoke_time"):
        rows += [
            ("Revoked 吊销时间", local_time(credential.revoke_time)),
            ("Because 吊销原因", credential.revoke_reason),
        ]
    for title, value in rows:
        if value:
            table.add_row(title, value)
    return table


def identity_facts(identity: service_pb2.GetIdentityResponse) -> Table:
    """Make the description of who calls."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("Platform 平台", identity.platform)
    table.add_row("Principal 主体", identity.principal)
    table.add_row("Kind 类型", f"{kind_name(identity.kind)} {KINDS.get(kind_name(identity.kind), '')}")
    if identity.division_code:
        table.add_row("Division 区划", identity.division_code)
    if identity.source_unit_ids:
        table.add_row("Source units 源头单位", _units(list(identity.source_unit_ids), _UNITS_SHOWN_MAX))
    table.add_row("Permissions 权限", ", ".join(permission_names(identity)))
    if identity.HasField("expire_time"):
        table.add_row("Ends 到期时间", local_time(identity.expire_time))
    return table


def permission_names(identity: service_pb2.GetIdentityResponse) -> list[str]:
    """Return the names of the permissions; numbers of those that this release does not know."""
    known = access_pb2.Permission.DESCRIPTOR.values_by_number
    return [
        known[number].name.removeprefix("PERMISSION_") if number in known else str(number)
        for number in identity.permissions
    ]


def bound_to(credential: pb.Credential, units_max: int = _UNITS_SHOWN_MAX) -> str:
    """Return the division or the units of a credential."""
    return credential.division_code or _units(list(credential.source_unit_ids), units_max)


def state_text(credential: pb.Credential, now: datetime) -> Text:
    """Return the state in English, Chinese and colour."""
    match state(credential, now):
        case "revoked":
            return Text("revoked 已吊销", "dim")
        case "ended":
            return Text("ended 已到期", "bold red")
    is_soon = credential.expire_time.ToDatetime(tzinfo=UTC) - now < ENDS_SOON
    return Text("ends soon 即将到期", "yellow") if is_soon else Text("valid 有效", "green")


def local_time(timestamp: Timestamp) -> str:
    """Write an instant in China Standard Time, to the minute."""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone(CHINA_TIME).strftime("%Y-%m-%d %H:%M")


def local_day(timestamp: Timestamp) -> str:
    """Write the day of an instant in China Standard Time."""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone(CHINA_TIME).strftime("%Y-%m-%d")


def _units(units: Sequence[str], units_max: int) -> str:
    shown = ", ".join(units[:units_max])
    return shown if len(units) <= units_max else f"{shown} … ({len(units):,})"
