"""The help of every command: in both languages, and within the columns of a terminal."""

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from cli.help_text import summary
from cli.main import main

COLUMNS = 80
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ENGLISH = re.compile(r"[A-Z][a-z]+ [a-z]+")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group below one."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


COMMANDS = list(commands(main))
NESTED = [words for words in COMMANDS if len(words) > 1]


def found(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), word)
        assert below is not None
        command = below
    return command


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_stays_within_the_terminal(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    shown = CliRunner().invoke(main, [*words, "--help"])
    # What is written to be copied is not filled.
    examples = set((found(words).epilog or "").splitlines())

    assert shown.exit_code == 0
    too_long = [line for line in shown.output.splitlines() if cell_len(line) > COLUMNS and line.strip() not in examples]
    assert too_long == []
    assert [one for one in shown.output if "\ue000" <= one <= "\uf8ff"] == []


@pytest.mark.parametrize("words", NESTED, ids=" ".join)
def test_a_list_of_commands_says_in_both_languages_what_each_does(words: tuple[str, ...]) -> None:
    told = summary(found(words))

    assert ENGLISH.search(told), told
    assert CHINESE.search(told), told
    # The list has all of it, over several lines if need be.
    shown = CliRunner().invoke(main, [*words[:-1], "--help"]).output
    assert "".join(told.split()) in "".join(shown.split())


def test_a_sentence_ends_at_a_full_stop_and_not_inside_of_a_name() -> None:
    command = click.Command(
        "issue", help="Make ca.crt anew. It is for all.\n\nMore of it.\n\n生成 ca.crt, 分发各级。其余从略。"
    )

    assert summary(command) == "Make ca.crt anew. 生成 ca.crt, 分发各级。"


def test_a_short_help_is_taken_as_it_is() -> None:
    assert summary(click.Command("one", help="Long.", short_help="Short. 短")) == "Short. 短"


def test_no_value_is_cut_at_a_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(60, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = CliRunner().invoke(main, ["credential", "create", "--help"]).output
        assert "security-administrator" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], "No such command 'nope'."),
        (["--nope"], "No such option '--nope'. 没有该选项"),
        (["relay", "nope"], "No such command 'nope'."),
        (["up", "--nope"], "No such option '--nope'. 没有该选项"),
        (["up", "--platform", "141025", "--tls", "nowhere"], "Directory 'nowhere' does not exist. 参数值无效"),
        (["notice", "issue", "--title", "x"], "Missing option '--to'. 缺少该参数"),
        (["status", "--watch=3"], "Option '--watch' does not take a value. 选项用法有误"),
    ],
)
def test_what_click_finds_wrong_is_told_in_chinese_too(words: list[str], told: str) -> None:
    shown = CliRunner().invoke(main, words)

    assert shown.exit_code == 2
    assert told in shown.output
    assert CHINESE.search(shown.output)


def test_what_is_told_in_both_languages_already_is_left_alone() -> None:
    shown = CliRunner().invoke(main, ["status", "nowhere"])

    assert shown.output.splitlines()[-1].endswith("既不是数据目录, 也不是地址")
