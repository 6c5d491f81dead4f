"""The documents name what is there: links resolve, commands and options exist, and nothing gives away a machine."""

import ipaddress
import re
from pathlib import Path

import click
import pytest

from cli.main import COMMANDS
from cli.main import main as zhichao
from tests.contract.documents import (
    ROOT,
    CodeBlock,
    all_code_blocks,
    anchors,
    code_blocks,
    documents,
    links,
    text_of,
    tracked_files,
)

READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in documents()]

# Written by `make bench` runs, not by hand; a document may name it before there are figures.
WRITTEN_LATER = {"docs/benchmarks.md"}

# Drawings hold words: of platforms, and of folders.
DRAWN = ("┌", "protos/zhichao/…")

MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|Users|work|mnt)/[\w.-]+")
PACKAGE_HOST = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|[\w.-]*pypi[\w-]*\.\w+/simple|npmjs\.(?:org|com)|goproxy\.)"
)
ADDRESS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
# RFC 5737.
DOCUMENTATION_NETWORKS = [ipaddress.ip_network(f"{start}.0/24") for start in ("192.0.2", "198.51.100", "203.0.113")]


def test_the_documents_are_there() -> None:
    assert {*READMES, "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/glossary.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_resolve(name: str) -> None:
    document = ROOT / name
    broken = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if target.relative_to(ROOT).as_posix() in WRITTEN_LATER:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("name", READMES)
def test_readme_names_every_command(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    offered = zhichao.list_commands(click.Context(zhichao))

    assert [command for command in offered if f"zhichao {command}" not in text] == []


def test_the_main_commands_are_there() -> None:
    installed = {name for name, command in COMMANDS.items() if command.is_installed}

    assert {"run", "up", "status", "verify", "simulate", "import"} <= installed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_block_is_empty(name: str) -> None:
    assert [block.language for block in all_code_blocks(ROOT / name) if not block.text.strip()] == []


def test_both_readmes_show_the_same_commands_and_answers() -> None:
    """Texts and comments differ; what is typed and what is printed do not."""
    english, chinese = (
        [
            (block.language, _without_comments(block))
            for block in all_code_blocks(ROOT / name)
            if not any(part in block.text for part in DRAWN)
        ]
        for name in READMES
    )

    assert english == chinese


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_in_shell_blocks_exist(name: str) -> None:
    wrong = [
        problem
        for block in code_blocks(ROOT / name, "sh")
        for words in block.commands()
        if Path(words[0]).name == "zhichao" and (problem := _problem(words[1:]))
    ]

    assert wrong == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_in_shell_blocks_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        word
        for block in code_blocks(ROOT / name, "sh")
        for words in block.commands()
        if words[0] == "make"
        for word in words[1:]
        if "=" not in word
    }

    assert named - targets == set()


def _without_comments(block: CodeBlock) -> str:
    return "\n".join(line for line in block.text.splitlines() if not line.startswith("#"))


def _problem(words: list[str]) -> str:
    """Return what is wrong with the words after `zhichao`; empty when click would understand them."""
    group: click.Command = zhichao
    context = click.Context(group, info_name="zhichao")
    while isinstance(group, click.Group):
        if not words or words[0].startswith("-"):
            return ""
        found = group.get_command(context, words[0])
        if found is None:
            return f"{words[0]} is no command of {context.command_path}"
        context = click.Context(found, parent=context, info_name=words[0])
        group, words = found, words[1:]
    known = {option for parameter in group.get_params(context) for option in parameter.opts}
    unknown = [word.partition("=")[0] for word in words if word.startswith("--")]
    return ", ".join(
        f"{option} is no option of {context.command_path}" for option in sorted({*unknown} - known - {"--help"})
    )


def _is_harmless(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # More than 255 somewhere: a version or a date.
        return True
    is_documentation = any(address in network for network in DOCUMENTATION_NETWORKS)
    return address.is_loopback or address.is_unspecified or is_documentation


def test_no_file_gives_away_a_machine() -> None:
    found = []
    for path in tracked_files():
        text = text_of(path)
        if text is None or path == Path(__file__):
            continue
        hits = [*MACHINE_PATH.findall(text), *PACKAGE_HOST.findall(text)]
        hits += [
            address
            for line in text.splitlines()
            # Sections of an RFC and of a national standard are numbered like addresses.
            if "RFC" not in line and "GB/T" not in line
            for address in ADDRESS.findall(line)
            if not _is_harmless(address)
        ]
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]

    assert found == []
