"""What `zhichao platform` and `zhichao division` show, in English and Chinese."""

import json
from collections.abc import Sequence
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.table import Table

from cli.terminal import Console
from zhichao.registry.v1 import resources_pb2 as pb

LEVELS: Final = {
    "province": (pb.DIVISION_LEVEL_PROVINCE, "省"),
    "city": (pb.DIVISION_LEVEL_CITY, "市"),
    "county": (pb.DIVISION_LEVEL_COUNTY, "县"),
}
"""Levels of divisions by the names that the command line has for them."""


def as_document(message: Message) -> dict[str, Any]:
    """Return a message as JSON shows it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show(places: Sequence[Message], table: Table, none_found: str, *, as_json: bool, is_list: bool = False) -> None:
    """Print places as their table, or `none_found` where there are none; as JSON a list, or the one place alone."""
    if as_json:
        documents = [as_document(one) for one in places]
        click.echo(json.dumps(documents if is_list else documents[0], ensure_ascii=False))
    elif places:
        Console().print(table)
    else:
        click.echo(none_found)


def platform_table(platforms: Sequence[pb.Platform]) -> Table:
    """Make the table of platforms."""
    table = _table(
        "Platform\n平台", "Name\n名称", "Upstream\n上级", "From\n起始", "Until\n截止(不含)", "Owner\n登记平台"
    )
    for one in platforms:
        table.add_row(
            one.platform_code,
            one.name,
            one.upstream_code or "none 无",
            one.valid_from or "-",
            one.valid_until or "-",
            one.info.origin,
        )
    return table


def division_table(divisions: Sequence[pb.Division]) -> Table:
    """Make the table of divisions."""
    table = _table(
        "Division\n区划",
        "Name\n名称",
        "Level\n层级",
        "Below\n上级",
        "From\n起始",
        "Until\n截止(不含)",
        "Owner\n登记平台",
    )
    for one in divisions:
        table.add_row(
            one.division_code,
            one.name,
            level_name(one.level),
            one.parent_code or "none 无",
            one.valid_from or "-",
            one.valid_until or "-",
            one.info.origin,
        )
    return table


def level_name(level: int) -> str:
    """Return the name of a level in both languages."""
    return next((f"{name} {chinese}" for name, (number, chinese) in LEVELS.items() if number == level), "-")


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=not title.startswith("Name"))
    return table
