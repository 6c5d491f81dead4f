"""`zhichao evidence store`: the evidence store of a platform, what keeps it from its work, and what is in it."""

import json
from dataclasses import asdict
from datetime import datetime

import click

from cli.evidence_reach import CALL_SECONDS_MAX, reaching, video_service
from cli.service_reach import Reach

EXIT_NOT_WELL = 1


@click.command("store")
@reaching
def store(reach: Reach, as_json: bool) -> None:
    """Show the evidence store: whether it works and enforces locks, what it keeps, what is lost.

    查看证据库: 是否可用、锁定是否有效、存有多少、有无缺失。

    Exit status: 0 when it does its work and nothing is lost; 1 when it is away, full or refuses, does not enforce its
    locks, evidence is missing or changed, or the service does not answer; 2 wrong options.
    退出码: 0 正常; 1 证据库不可用、已满、锁定无效、证据缺失或损坏, 或服务不可用; 2 参数错误。
    """
    from cli.store_display import store_facts
    from cli.store_figures import store_figures
    from cli.terminal import Console
    from zhichao.video.v1 import service_pb2 as pb

    with video_service(reach) as stub:
        found = store_figures(stub.GetStoreStatus(pb.GetStoreStatusRequest(), timeout=CALL_SECONDS_MAX))
    if as_json:
        document = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(found).items()
        }
        click.echo(json.dumps({**document, "is_well": found.is_well}, ensure_ascii=False))
    else:
        Console().print(store_facts(found))
    raise click.exceptions.Exit(0 if found.is_well else EXIT_NOT_WELL)
