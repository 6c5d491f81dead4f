"""`zhichao division`: which divisions a registry knows, and below which each lies. Who may do what, and what goes down
to whom, is decided by it.
"""

from typing import TYPE_CHECKING, Any, Final

import click

from cli.help_text import CommandGroup
from cli.listing import first, more_than
from cli.place_request import (
    CALL_SECONDS_MAX,
    CALLER_TOKENS,
    DAY,
    LIMIT,
    PAGE_SIZE,
    VALID_FROM,
    VALID_UNTIL,
    changes,
    given,
)
from cli.registry_reach import reaching, registry_channel
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.registry.v1 import resources_pb2

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao division register 141025 --name 古县 --level county --below 141000
zhichao division update 141025 --below 140600
zhichao division list --below 141000
"""

LEVEL_NAMES: Final = ("province", "city", "county")


@click.group("division", cls=CommandGroup, epilog=EXAMPLES)
def division() -> None:
    """Record divisions, and below which each lies.

    登记行政区划及其隶属关系。

    Only what a platform has recorded itself decides; where it has recorded nothing, the GB/T 2260 code does. Without
    --data or --registry, the one platform that runs here is meant (var/*), and its operator calls.
    隶属关系以本平台登记为准, 未登记的按 GB/T 2260 代码。
    """


@division.command("register")
@click.argument("division_code", metavar="CODE")
@click.option("--name", required=True, help="Its name. 名称。")
@click.option("--level", type=click.Choice(LEVEL_NAMES), required=True, help="Its level. 层级。")
@click.option("--below", metavar="CODE", default="", help="Division above it. 上级区划。")
@click.option("--extra-zone", is_flag=True, help="Not in GB/T 2260, such as a development zone. 非国标代码, 如开发区。")
@VALID_FROM
@VALID_UNTIL
@reaching
def register(
    division_code: str,
    name: str,
    level: str,
    below: str,
    extra_zone: bool,
    valid_from: str | None,
    valid_until: str | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Record a division. Repeated it is recorded once.

    登记区划, 可重复执行。
    """
    from cli.place_display import LEVELS
    from zhichao.registry.v1 import resources_pb2, service_pb2, service_pb2_grpc

    wanted = resources_pb2.Division(
        division_code=division_code,
        name=name,
        parent_code=below,
        level=LEVELS[level][0],
        is_extra_zone=extra_zone,
        **given(valid_from=valid_from, valid_until=valid_until),
    )
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        request = service_pb2.CreateDivisionRequest(division=wanted)
        _show([stub.CreateDivision(request, timeout=CALL_SECONDS_MAX).division], as_json=as_json)


@division.command("update")
@click.argument("division_code", metavar="CODE")
@click.option("--name", help="Its name. 名称。")
@click.option("--below", metavar="CODE", help="Division above it. 上级区划。")
@click.option("--successor", metavar="CODE", help="Code that takes its place. 后继代码。")
@VALID_UNTIL
@reaching
def update(
    division_code: str,
    name: str | None,
    below: str | None,
    successor: str | None,
    valid_until: str | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Change what is named, as for a division that is put below another one.

    变更区划登记, 例如改隶。
    """
    from zhichao.registry.v1 import resources_pb2, service_pb2, service_pb2_grpc

    wanted = changes(name=name, parent_code=below, successor_code=successor, valid_until=valid_until)
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        # A code may have been used twice; the first day tells the two apart, and the etag whether somebody was faster.
        named = service_pb2.GetDivisionRequest(division_code=division_code)
        held = stub.GetDivision(named, timeout=CALL_SECONDS_MAX).division
        changed = resources_pb2.Division(division_code=division_code, valid_from=held.valid_from, **wanted)
        changed.info.etag = held.info.etag
        request = service_pb2.UpdateDivisionRequest(division=changed)
        request.update_mask.paths.extend(wanted)
        _show([stub.UpdateDivision(request, timeout=CALL_SECONDS_MAX).division], as_json=as_json)


@division.command("list")
@click.option("--below", metavar="CODE", default="", help="Only directly below it. 仅此区划的直接下级。")
@click.option("--on", "day", type=DAY, help="Only valid on this day, as 2026-07-01. 仅当日有效。")
@click.option("--origin", metavar="CODE", default="", help="Only recorded by this platform. 仅由此平台登记。")
@LIMIT
@reaching
def list_divisions(below: str, day: Any, origin: str, limit: int, reach: Reach, as_json: bool) -> None:
    """List divisions, those among them that others have recorded.

    列出区划, 含其他平台登记的。
    """
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        request = service_pb2.ListDivisionsRequest(
            parent_code=below, origin=origin, valid_on=f"{day:%Y-%m-%d}" if day is not None else "", page_size=PAGE_SIZE
        )
        found, has_more = first(stub.ListDivisions, request, "divisions", limit, CALL_SECONDS_MAX)
    _show(found, as_json=as_json, is_list=True)
    if has_more and not as_json:
        click.echo(more_than(limit))


def _show(found: "list[resources_pb2.Division]", *, as_json: bool, is_list: bool = False) -> None:
    from cli.place_display import division_table, show

    show(found, division_table(found), "no divisions 无区划", as_json=as_json, is_list=is_list)
