"""`zhichao rule-set`: the figures that judge, checked, published for the platforms below, and looked at."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from cli.help_text import CommandGroup
from cli.listing import every, show_list
from cli.registry_reach import reaching, registry_channel
from cli.service_reach import Reach

if TYPE_CHECKING:
    from cli.rule_set_file import RuleSetFile
    from zhichao.registry.v1 import resources_pb2

CALL_SECONDS_MAX: Final = 20.0
"""A rule set is written in milliseconds; the link may be slow."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 10_000
"""Rows that a command fetches: a province with all its counties has some hundred versions."""

PAGE_SIZE: Final = 200

DAY: Final = click.DateTime(("%Y-%m-%d",))

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao rule-set show order-62-2016 --json > shanxi.json
zhichao rule-set validate shanxi.json
zhichao rule-set publish shanxi.json --to 141000
zhichao rule-set receipts shanxi-2026
zhichao rule-set list --on 2026-07-01
"""


@click.group("rule-set", cls=CommandGroup, epilog=EXAMPLES)
def rule_set() -> None:
    """Check and publish the figures that judge, and look at them.

    校验、发布与查看判定规则集。

    What a platform publishes goes down to the division that it is for; where nobody nearer has published the same id,
    it judges there. Without --data or --registry, the one platform that runs here is meant (var/*), and its operator
    calls. 规则集下发至所适用的区划; 下级未发布同编号规则集时, 以上级的判定。
    """


@rule_set.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.File(encoding="utf-8"), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")
def validate(files: tuple[TextIO, ...], as_json: bool) -> None:
    """Check files without publishing them; exit code 1 if one is not right. - reads standard input.

    离线校验规则集文件, 有误时退出码为 1。
    """
    from cli.rule_set_file import read_rule_set

    read = [read_rule_set(file) for file in files]
    if as_json:
        click.echo(json.dumps([_finding_document(one) for one in read], ensure_ascii=False))
    else:
        for one in read:
            for line in _finding_lines(one):
                click.echo(line)
    if any(one.violations for one in read):
        raise SystemExit(1)


@rule_set.command("publish")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option(
    "--to",
    "jurisdiction",
    metavar="CODE",
    help="Division that it is for, with all below it, if the file does not say: its jurisdiction. Without one it is "
    "for all below. 适用区划(含下级); 未指定则适用全部下级。",
)
@reaching
def publish(file: TextIO, jurisdiction: str | None, reach: Reach, as_json: bool) -> None:
    """Publish a version of a rule set, which never changes afterwards. Repeated it is published once.

    发布规则集版本, 发布后不可更改; 重复执行只发布一次。
    """
    from cli.rule_set_file import read_rule_set
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    read = read_rule_set(file)
    if read.violations:
        raise click.ClickException("\n  ".join(_finding_lines(read)))
    wanted = read.rule_set
    if jurisdiction is not None:
        if wanted.jurisdiction not in ("", jurisdiction):
            raise click.UsageError(
                f"the file is for {wanted.jurisdiction}, --to says {jurisdiction}: it is published for one division "
                "文件中的适用区划与 --to 不一致"
            )
        wanted.jurisdiction = jurisdiction
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        answer = stub.CreateRuleSet(service_pb2.CreateRuleSetRequest(rule_set=wanted), timeout=CALL_SECONDS_MAX)
    _show(answer.rule_set, as_json=as_json, is_brief=True)


@rule_set.command("list")
@click.option("--id", "rule_set_id", default="", metavar="ID", help="Only versions of this one. 仅此编号。")
@click.option("--origin", default="", metavar="CODE", help="Only of this platform. 仅此平台发布。")
@click.option("--on", "day", type=DAY, help="Only in force on this day, as 2026-07-01. 仅当日有效。")
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=LIMIT_DEFAULT,
    show_default=True,
    help="At most so many. 最多条数。",
)
@reaching
def list_rule_sets(rule_set_id: str, origin: str, day: Any, limit: int, reach: Reach, as_json: bool) -> None:
    """List rule sets that this platform holds: its own, and those of platforms above and below.

    列出本平台持有的规则集, 含上级与下级发布的。
    """
    from cli.rule_set_display import as_heading, rule_set_table
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    request = service_pb2.ListRuleSetsRequest(
        effective_on=f"{day:%Y-%m-%d}" if day is not None else "", origin=origin, page_size=PAGE_SIZE
    )
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        listed = every(stub.ListRuleSets, request, "rule_sets", CALL_SECONDS_MAX)
        wanted = (one for one in listed if rule_set_id in ("", one.rule_set_id))
        found = list(islice(wanted, limit + 1))
    has_more, found = len(found) > limit, found[:limit]
    show_list(
        "rule_sets",
        found,
        as_heading,
        rule_set_table(found),
        "no rule sets 无规则集",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@rule_set.command("show")
@click.argument("rule_set_id", metavar="ID")
@click.option("--version", type=click.IntRange(1), help="Version; the newest if none. 版本, 默认最新。")
@click.option(
    "--origin", default="", metavar="CODE", help="Platform that published it; the nearest if none. 发布平台。"
)
@reaching
def show(rule_set_id: str, version: int | None, origin: str, reach: Reach, as_json: bool) -> None:
    """Show a rule set with all its figures. With --json it is a file that can be changed and published.

    查看规则集全部数值; --json 输出可修改后发布。
    """
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    request = service_pb2.GetRuleSetRequest(rule_set_id=rule_set_id, version=version or 0, origin=origin)
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        _show(stub.GetRuleSet(request, timeout=CALL_SECONDS_MAX).rule_set, as_json=as_json)


@rule_set.command("receipts")
@click.argument("rule_set_id", metavar="ID")
@click.option("--version", type=click.IntRange(1), help="Version; the newest if none. 版本, 默认最新。")
@click.option(
    "--origin", default="", metavar="CODE", help="Platform that published it; the nearest if none. 发布平台。"
)
@reaching
def receipts(rule_set_id: str, version: int | None, origin: str, reach: Reach, as_json: bool) -> None:
    """List the platforms below that have received a rule set, as far as their receipts have come here.

    列出已送达的下级平台。
    """
    from cli.rule_set_display import as_document, receipt_table, rule_set_facts
    from cli.terminal import Console
    from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
    from zhichao.registry.v1 import service_pb2, service_pb2_grpc

    named = service_pb2.GetRuleSetRequest(rule_set_id=rule_set_id, version=version or 0, origin=origin)
    with registry_channel(reach, CALLER_TOKENS) as channel:
        stub = service_pb2_grpc.RegistryServiceStub(channel)
        published = stub.GetRuleSet(named, timeout=CALL_SECONDS_MAX).rule_set
        info = published.info
        request = journal_pb2.ListAddressedReceiptsRequest(
            origin=info.origin, first_sequence=info.sequence, last_sequence=info.sequence, page_size=PAGE_SIZE
        )
        journal = journal_pb2_grpc.JournalServiceStub(channel)
        found = list(every(journal.ListAddressedReceipts, request, "receipts", CALL_SECONDS_MAX))
    if as_json:
        heading = {"rule_set_id": published.rule_set_id, "version": published.version, "origin": info.origin}
        document = {**heading, "receipts": [as_document(one) for one in found]}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    console = Console()
    console.print(rule_set_facts(published))
    if found:
        console.print(receipt_table(found))
    else:
        click.echo("received by nobody yet 尚无平台送达")


def _show(found: "resources_pb2.RuleSet", *, as_json: bool, is_brief: bool = False) -> None:
    from cli.rule_set_display import as_document, figure_tables, rule_set_facts
    from cli.terminal import Console

    if as_json:
        # People change it and publish it again.
        click.echo(json.dumps(as_document(found), ensure_ascii=False, indent=None if is_brief else 2))
        return
    console = Console()
    console.print(rule_set_facts(found))
    if not is_brief:
        for table in figure_tables(found):
            console.print(table)


def _finding_lines(read: "RuleSetFile") -> list[str]:
    if not read.violations:
        return [f"{read.name}: {read.rule_set.rule_set_id} version {read.rule_set.version} is right 校验通过"]
    return [f"{read.name}: " + f"{one.field} {one.description}".strip() for one in read.violations]


def _finding_document(read: "RuleSetFile") -> dict[str, Any]:
    return {
        "file": read.name,
        "rule_set_id": read.rule_set.rule_set_id,
        "version": read.rule_set.version,
        "violations": [{"field": one.field, "description": one.description} for one in read.violations],
    }
