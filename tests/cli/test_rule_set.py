"""`zhichao rule-set` against real registries: files are checked, published at the city, and shown at the county."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import services.registry
from cli import rule_set_command, rule_set_file
from cli.main import main
from tests.conftest import Databases
from tests.registry.downlink import carry_down
from tests.registry.harness import RunningRegistry

CITY, COUNTY = "141000", "141025"
ORDER = json.loads((files(services.registry) / "rule_sets" / "order-62-2016.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def registries(databases: Databases) -> Iterator[dict[str, RunningRegistry]]:
    """Run the registries of a city and a county, whose clocks show today as the command line's does."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory, ExitStack() as running:
        made = {}
        for platform in (CITY, COUNTY):
            made[platform] = RunningRegistry(databases, Path(directory), platform, datetime.now(UTC))
            running.callback(made[platform].close)
        yield made


class Shell:
    """The command line as the operator of one platform uses it."""

    def __init__(self, registry: RunningRegistry, directory: Path) -> None:
        self._token_file = directory / f"{registry.platform}.token"
        self._token_file.write_text(f"{registry.operator_token}\n")
        self._options = ["--registry", registry.address, "--token-file", str(self._token_file)]

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        # Wide enough that no table folds.
        return CliRunner().invoke(main, ["rule-set", *arguments, *self._options], env={"COLUMNS": "250"}, input=typed)

    def done(self, *arguments: str, typed: str | None = None) -> str:
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def document(self, *arguments: str, typed: str | None = None) -> Any:
        # Log lines of the registries, which run in this process, stand before it.
        output = "\n" + self.done(*arguments, "--json", typed=typed)
        return json.loads(output[output.index("\n{\n") :] if "\n{\n" in output else output.splitlines()[-1])

    def refused(self, *arguments: str, exit_code: int = 1) -> str:
        result = self.run(*arguments)
        assert result.exit_code == exit_code, result.output
        return result.output


@pytest.fixture
def city(registries: dict[str, RunningRegistry], tmp_path: Path) -> Shell:
    return Shell(registries[CITY], tmp_path)


@pytest.fixture
def county(registries: dict[str, RunningRegistry], tmp_path: Path) -> Shell:
    return Shell(registries[COUNTY], tmp_path)


def written(directory: Path, rule_set_id: str, **fields: Any) -> str:
    """Write a rule set into a file and return its name."""
    path = directory / f"{rule_set_id}.json"
    path.write_text(json.dumps(ORDER | {"ruleSetId": rule_set_id} | fields, ensure_ascii=False), encoding="utf-8")
    return str(path)


def validated(*names: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["rule-set", "validate", *names], input=typed)


def test_files_are_checked_without_a_registry(tmp_path: Path) -> None:
    right = written(tmp_path, "right")
    result = validated(right)
    assert (result.exit_code, result.output) == (0, f"{right}: right version 1 is right 校验通过\n")
    wrong = written(tmp_path, "wrong", version=0, effectiveFrom="2025-02-30")
    result = validated(right, wrong)
    assert result.exit_code == 1
    assert f"{wrong}: version is 0" in result.output
    assert f"{wrong}: effective_from is '2025-02-30'" in result.output


def test_what_is_wrong_is_told_as_json_too(tmp_path: Path) -> None:
    result = validated("--json", written(tmp_path, "right"), written(tmp_path, "wrong", titleZh=""))
    right, wrong = json.loads(result.output)
    assert (result.exit_code, right["violations"], right["version"]) == (1, [], 1)
    assert [violation["field"] for violation in wrong["violations"]] == ["title_zh"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is no rule set in JSON"),
        ('{"ruleSetId": 7}', "is no rule set in JSON"),
        ('{"figures": []}', "is no rule set in JSON"),
        ("[]", "is no rule set in JSON"),
        ("7", "is no rule set in JSON"),
        ('{"version": 1, "version": 2}', "is no rule set in JSON"),
        ("{" + " " * rule_set_file.FILE_CHARACTERS_MAX, "has more than"),
    ],
)
def test_what_is_no_rule_set_is_told(content: str, told: str) -> None:
    result = validated("-", typed=content)
    assert result.exit_code == 1
    assert told in result.output


def test_a_file_of_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gbk.json"
    path.write_bytes(json.dumps(ORDER, ensure_ascii=False).encode("gbk"))
    result = validated(str(path))
    assert (result.exit_code, "is not UTF-8" in result.output) == (1, True)


def test_a_file_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_bytes(json.dumps(ORDER, indent=1).replace("\n", "\r\n").encode("utf-8-sig"))
    assert validated(str(path)).exit_code == 0


def test_it_is_published_for_a_division_and_shown_there(
    registries: dict[str, RunningRegistry], city: Shell, county: Shell, tmp_path: Path
) -> None:
    name = written(tmp_path, "of-the-city", effectiveFrom="2026-01-01")
    output = city.done("publish", name, "--to", COUNTY)
    assert "141025 and below" in output
    assert "in force 有效" in output
    published = city.document("publish", name, "--to", COUNTY)
    assert (published["jurisdiction"], published["info"]["origin"]) == (COUNTY, CITY)
    assert "of-the-city" not in county.done("list")

    assert "received by nobody yet" in city.done("receipts", "of-the-city")
    assert carry_down(registries[CITY], registries[COUNTY]) == 1
    registries[CITY].receive(registries[COUNTY].batches())
    received = city.document("receipts", "of-the-city")
    assert (received["origin"], received["version"]) == (CITY, 1)
    assert [(one["platform"], "receive_time" in one) for one in received["receipts"]] == [(COUNTY, True)]
    assert re.search(rf"{COUNTY} +20[0-9-]+ [0-9:]+", city.done("receipts", "of-the-city"))

    (listed,) = county.document("list", "--id", "of-the-city")["rule_sets"]
    assert (listed["info"]["origin"], listed["version"], listed["state"]) == (CITY, 1, "in force")
    assert "gross_limits" not in listed
    shown = county.done("show", "of-the-city")
    for figure in ("rigid-3", "25,000", "combination-6", "tandem-1300", "dynamic 动态", "50 ‰", "100,000 kg"):
        assert figure in shown
    # What is shown may be changed and published: it is the next version, or another's.
    document = county.document("show", "of-the-city")
    document["title_zh"] = "示例规则"
    own = county.document("publish", "-", typed=json.dumps(document))
    assert own["info"]["origin"] == COUNTY
    owners = [one["info"]["origin"] for one in county.document("list", "--id", "of-the-city")["rule_sets"]]
    assert sorted(owners) == [CITY, COUNTY]
    assert county.document("show", "of-the-city", "--origin", CITY)["title_zh"] == ORDER["titleZh"]


def test_without_a_division_it_is_for_all_below(city: Shell, tmp_path: Path) -> None:
    assert "141000 and below" in city.done("publish", written(tmp_path, "for-all"))


def test_two_divisions_are_not_taken_for_one(city: Shell, tmp_path: Path) -> None:
    name = written(tmp_path, "for-one", jurisdiction="141026")
    assert "the file is for 141026, --to says 141025" in city.refused("publish", name, "--to", COUNTY, exit_code=2)
    assert city.document("list", "--id", "for-one")["rule_sets"] == []
    assert city.document("publish", name, "--to", "141026")["jurisdiction"] == "141026"


def test_what_is_wrong_is_not_sent(city: Shell, tmp_path: Path) -> None:
    output = city.refused("publish", written(tmp_path, "wrong", version=0, titleZh=""))
    assert "version is 0" in output
    assert "title_zh is missing" in output


def test_a_published_version_stays_and_the_next_one_has_no_gap(city: Shell, tmp_path: Path) -> None:
    city.done("publish", written(tmp_path, "steady"))
    changed = city.refused("publish", written(tmp_path, "steady", titleZh="另一个"))
    assert "RESOURCE_EXISTS" in changed
    assert "publish the next one" in changed
    assert "the next one is 2" in city.refused("publish", written(tmp_path, "steady", version=3))
    city.done("publish", written(tmp_path, "steady", version=2, effectiveFrom="2999-01-01"))
    assert "later 待生效" in city.done("show", "steady")
    assert city.document("show", "steady", "--version", "1")["version"] == 1
    assert "NOT_FOUND" in city.refused("show", "steady", "--version", "9")


def test_lists_page_and_narrow(city: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        first_day = f"203{number}-01-01"
        city.done("publish", written(tmp_path, f"paged-{number}", effectiveFrom=first_day, effectiveUntil="2040-01-01"))
    monkeypatch.setattr(rule_set_command, "PAGE_SIZE", 2)
    everything = [one["rule_set_id"] for one in city.document("list")["rule_sets"]]
    assert {f"paged-{number}" for number in range(5)} <= set(everything)
    first = city.document("list", "--limit", "3")
    assert ([one["rule_set_id"] for one in first["rule_sets"]], first["has_more"]) == (everything[:3], True)
    assert "more than 3" in city.done("list", "--limit", "3")
    day = city.document("list", "--on", "2032-06-01")["rule_sets"]
    assert [one["rule_set_id"] for one in day if one["rule_set_id"].startswith("paged")] == [
        "paged-0",
        "paged-1",
        "paged-2",
    ]
    assert city.done("list", "--origin", "140500").splitlines()[-1] == "no rule sets 无规则集"


def test_only_who_may_publishes(registries: dict[str, RunningRegistry], city: Shell, tmp_path: Path) -> None:
    city._token_file.write_text(f"{registries[CITY].admin_token}\n")
    output = city.refused("publish", written(tmp_path, "forbidden"))
    assert "PERMISSION_MISSING" in output
    assert "RULE_SET_WRITE" in output
