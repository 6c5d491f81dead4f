"""`zhichao platform`: which platforms a registry knows, and below whom: whoever is not registered is not let in."""

from typing import TYPE_CHECKING, Final

import click

from cli.help_text import CommandGroup
from cli.listing import first, more_than
from cli.place_request import CALL_SECONDS_MAX, CALLER_TOKENS, LIMIT, PAGE_SIZE, VALID_FROM, VALID_UNTIL, changes, given
from cli.registry_reach import reaching, registry_channel
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.registry.v1 import resources_pb2

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao platform register 141025 --name 古县 --upstream 141000
zhichao platform list --below 141000
zhichao platform update 141025 --upstream 140600
zhichao platform update 141025 --until 2026-07-01
"""

_UPSTREAM_HELP: Final = "Platform that its journals go up to. 上级平台代码。"


@click.group("platform", cls=CommandGroup, epilog=EXAMPLES)
def platform() -> None:
    """Register platforms, and say below whom each is.

    登记平台及其上级。

    An upper platform lets those in that its own registry has below it, from the first day to the last. Without --data
    or --registry, the one platform that runs here is meant (var/*), and its operator calls.
    上级平台只接纳登记在其下的平台。
    """


@platform.command("register")
@click.argument("platform_code", metavar="CODE")
@click.option("--name", required=True, help="Its name. 名称。")
@click.option("--upstream", metavar="CODE", default="", help=f"{_UPSTREAM_HELP} 无上级时省略。")
@VALID_FROM
@VALID_UNTIL
@reaching
def register(
    platform_code: str,
    name: str,
    upstream: str,
    valid_from: str | None,
    valid_until: str | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Register a platform. Repeated it is registered once.

    登记平台, 可重复执行。
    """
    from zhichao.registry.v1 import resources_pb2, service_pb2, service_pb2_grpc

    wanted = resources_pb2.Platform(
        platform_code=platform_code,
        name=name,
        upstream_code=upstream,
        **given(valid_from=valid_from, valid_until=valid_until),
    )
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        request = service_pb2.CreatePlatformRequest(platform=wanted)
        _show([stub.CreatePlatform(request, timeout=CALL_SECONDS_MAX).platform], as_json=as_json)


@platform.command("update")
@click.argument("platform_code", metavar="CODE")
@click.option("--name", help="Its name. 名称。")
@click.option("--upstream", metavar="CODE", help=f'{_UPSTREAM_HELP} "" for none. 空串表示无上级。')
@VALID_FROM
@VALID_UNTIL
@reaching
def update(
    platform_code: str,
    name: str | None,
    upstream: str | None,
    valid_from: str | None,
    valid_until: str | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Change what is named, as for a platform that moves to another upstream or is no more.

    变更平台登记, 例如改挂上级或停用。
    """
    from zhichao.registry.v1 import resources_pb2, service_pb2, service_pb2_grpc

    wanted = changes(name=name, upstream_code=upstream, valid_from=valid_from, valid_until=valid_until)
    request = service_pb2.UpdatePlatformRequest(platform=resources_pb2.Platform(platform_code=platform_code, **wanted))
    request.update_mask.paths.extend(wanted)
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        _show([stub.UpdatePlatform(request, timeout=CALL_SECONDS_MAX).platform], as_json=as_json)


@platform.command("list")
@click.option("--below", "upstream", metavar="CODE", default="", help="Only directly below it. 仅此平台的直接下级。")
@click.option("--origin", metavar="CODE", default="", help="Only registered by this platform. 仅由此平台登记。")
@LIMIT
@reaching
def list_platforms(upstream: str, origin: str, limit: int, reach: Reach, as_json: bool) -> None:
    """List platforms, those among them that others have registered.

    列出平台, 含其他平台登记的。
    """
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        request = service_pb2.ListPlatformsRequest(upstream_code=upstream, origin=origin, page_size=PAGE_SIZE)
        found, has_more = first(stub.ListPlatforms, request, "platforms", limit, CALL_SECONDS_MAX)
    _show(found, as_json=as_json, is_list=True)
    if has_more and not as_json:
        click.echo(more_than(limit))


def _show(found: "list[resources_pb2.Platform]", *, as_json: bool, is_list: bool = False) -> None:
    from cli.place_display import platform_table, show

    show(found, platform_table(found), "no platforms 无平台", as_json=as_json, is_list=is_list)
