"""What others have written is shown as text, whatever it would do to a terminal."""

from io import StringIO
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cli.rule_set_display import rule_set_table
from cli.terminal import Console
from zhichao.registry.v1.resources_pb2 import ResourceInfo, RuleSet

ROOT = Path(__file__).resolve().parents[2]

OWN_WORDS = {"cli/audit_log/progress.py", "cli/pki_command.py", "cli/run.py", "cli/simulate_command.py", "cli/up.py"}
"""Modules with another console: they show what they do themselves."""


def shown(*printed: object) -> str:
    target = StringIO()
    Console(file=target, width=200).print(*printed)
    return target.getvalue()


def test_what_would_steer_the_terminal_is_not_sent_to_it() -> None:
    table = Table("who")
    # Clear the screen, in both codings; set the title; turn the direction of reading.
    for text in ("a\x1b[2Jb", "a\x9b2Jb", "a\x1b]0;title\x07b", "a\u202eb"):
        table.add_row(text)
        table.add_row(Text(text))

    assert set(shown(table)).isdisjoint("\x1b\x9b\x07\u202e")
    assert "a\ufffd[2Jb" in shown(table)


def test_brackets_are_brackets() -> None:
    assert shown("[/x] [red]a") == "[/x] [red]a\n"
    table = Table("who")
    table.add_row("[/x]")
    assert "[/x]" in shown(table)


def test_an_address_is_an_address() -> None:
    table = Table("where")
    table.add_row("2001:db8:a:100:1::1")

    assert "2001:db8:a:100:1::1" in shown(table)


def test_a_title_that_a_platform_below_has_made_up_is_shown_all_the_same() -> None:
    rule_set = RuleSet(rule_set_id="r-1", version=1, title="[/x]\x1b[2J", info=ResourceInfo(origin="141025"))

    assert "\x1b" not in shown(rule_set_table([rule_set]))


def test_colours_of_our_own_stay() -> None:
    target = StringIO()
    Console(file=target, force_terminal=True, color_system="standard").print(Text("a", "red"))

    assert target.getvalue() == "\x1b[31ma\x1b[0m\n"


def test_commands_that_show_what_platforms_hold_have_this_console() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in ROOT.glob("cli/**/*.py")}
    makers = {path for path, text in sources.items() if " Console(" in text}

    assert {path for path in makers if "from rich.console import Console\n" in sources[path]} == OWN_WORDS
