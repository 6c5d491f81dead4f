"""How help looks in two languages: lists of commands say in both what each does, and lines with Chinese end where the
others end, since a Chinese character takes two columns.
"""

import re
from collections.abc import Iterable
from typing import Final
from unicodedata import east_asian_width

import click

_FILLER: Final = "\ue000"
"""Stands behind each wide character while lines are filled; click counts characters and not columns. Private use."""

_HYPHEN: Final = "\ue001"
"""Stands for a hyphen meanwhile: an option or a value that is cut at one cannot be copied."""

_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]")


_MISTAKES: Final = (
    (click.NoSuchCommand, "没有该命令"),
    (click.NoSuchOption, "没有该选项"),
    (click.MissingParameter, "缺少该参数"),
    (click.BadParameter, "参数值无效"),
    (click.BadOptionUsage, "选项用法有误"),
    (click.UsageError, "用法有误, 请见 --help"),
)
"""What click finds wrong with the words of a command, the most special first."""


def in_chinese_too(error: click.UsageError) -> None:
    """Add to what click says of a mistake what it is in Chinese, unless its text is ours and has that."""
    if not _CHINESE.search(error.format_message()):
        chinese = next(chinese for kind, chinese in _MISTAKES if isinstance(error, kind))
        # click declares it final, and has no other place for a text.
        vars(error)["message"] = f"{error.message} {chinese}".lstrip()


class HelpFormatter(click.HelpFormatter):
    """Fills lines by columns of a terminal."""

    def write_text(self, text: str) -> None:
        """Write a text, its lines filled."""
        super().write_text(_filled_by_columns(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and what they mean, in two columns."""
        super().write_dl(
            [(_filled_by_columns(term), _filled_by_columns(meaning)) for term, meaning in rows], col_max, col_spacing
        )

    def getvalue(self) -> str:
        """Return everything written."""
        return super().getvalue().replace(_FILLER, "").replace(_HYPHEN, "-")


class CommandGroup(click.Group):
    """A group that lists its commands with the first sentence of each in both languages, whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(command)) for name, command in commands if command is not None])


def summary(command: click.Command) -> str:
    """Return what a command does in a sentence of each language: how its help begins, unless it has a short one."""
    if command.short_help:
        return command.short_help
    english, *others = [" ".join(one.split()) for one in _PARAGRAPHS.split(command.help or "")]
    chinese = next((one for one in others if _CHINESE.match(one)), "")
    return f"{_first_sentence(english)} {_first_sentence(chinese)}".rstrip()


def _first_sentence(text: str) -> str:
    # A full stop inside of a name such as ca.crt ends nothing.
    return re.split(r"(?<=[.。])(?:\s|$)|(?<=。)", text, maxsplit=1)[0]


def _filled_by_columns(text: str) -> str:
    wide = (one + _FILLER if east_asian_width(one) in "WF" else one for one in text)
    return "".join(wide).replace("-", _HYPHEN)
