"""The `zhichao` command: names its subcommands and imports each only when it is called.

A command is one line in COMMANDS. One whose module is not there is neither listed nor an obstacle to the others.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from cli.help_text import HelpFormatter, in_chinese_too


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is defined, and the line shown for it in the list without importing it."""

    module: str
    attribute: str
    summary: str

    @property
    def is_installed(self) -> bool:
        """Whether the module is there."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            # The package around it is missing.
            return False


COMMANDS: Mapping[str, LazyCommand] = {
    "run": LazyCommand("cli.run", "run", "Run three levels with simulated trucks. 三级平台演示"),
    "up": LazyCommand("cli.up", "up", "Start a platform. 启动平台"),
    "status": LazyCommand("cli.status", "status", "Show what a platform does. 查看平台状态"),
    "verify": LazyCommand("cli.verify", "verify", "Check journals and their proofs. 核验日志与证明"),
    "simulate": LazyCommand("cli.simulate_command", "command", "Send simulated weighings. 模拟称重数据"),
    "import": LazyCommand("cli.import_command", "command", "Import weighings from files. 导入称重记录"),
    "doctor": LazyCommand("cli.doctor_command", "doctor", "Look at what a platform needs. 检查平台"),
    "backup": LazyCommand("cli.backup_command", "backup", "Back up and restore a platform. 备份与恢复"),
    "pki": LazyCommand("cli.pki_command", "pki", "Make and look at certificates. 证书签发与查看"),
    "relay": LazyCommand("cli.relay_command", "relay", "Look after the connection to the upper level. 上下级转发"),
    "platform": LazyCommand("cli.platform_command", "platform", "Register platforms below. 平台登记"),
    "division": LazyCommand("cli.division_command", "division", "Record divisions. 行政区划登记"),
    "notice": LazyCommand("cli.notice_command", "notice", "Issue and acknowledge notices. 通报下发与签收"),
    "duty-check": LazyCommand("cli.duty_check_command", "duty_check", "Ask the persons on duty. 查岗与应答"),
    "evidence": LazyCommand("cli.evidence_command", "evidence", "Photos, clips and documents as evidence. 证据管理"),
    "rule-set": LazyCommand("cli.rule_set_command", "rule_set", "Check and publish rule sets. 规则集校验与发布"),
    "credential": LazyCommand("cli.credential_command", "credential", "Issue and revoke credentials. 凭证管理"),
    "audit-log": LazyCommand("cli.audit_log_command", "audit_log", "Look at and export the audit log. 审计日志"),
    "whoami": LazyCommand("cli.credential_command", "whoami", "Show who a token is. 查看身份"),
}


SERVING = (["up"], ["run"])
"""Commands that run services."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, not when the group is."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands that are installed, in the order of COMMANDS."""
        return [name for name, command in COMMANDS.items() if command.is_installed]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when it is unknown or not installed."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None or not lazy.is_installed:
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{lazy.attribute} is not a command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words before the command; what click itself finds wrong with them is told in both languages."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            in_chinese_too(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the same goes for its own words."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            in_chinese_too(error)
            raise

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run as a program. A command that calls a platform tells what is wrong itself; gRPC's own lines about it are
        for the logs of those that serve.
        """
        if not arguments and not options and sys.argv[1:2] not in SERVING:
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        return super().main(*arguments, **options)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


# For every command, the imported ones too.
click.Context.formatter_class = HelpFormatter


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zhichao", prog_name="zhichao")
def main() -> None:
    """Zhichao: overload control from the source unit to the province.

    治超:货运源头单位称重监管平台(县、市、省)。
    """


if __name__ == "__main__":
    main()
