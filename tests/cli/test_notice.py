"""`zhichao notice` against real enforcement services: issued at the city, acknowledged at the county."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from services.common.access.permissions import Role
from tests.enforcement.conftest import city, clock, county, neighbour, registries, service, short_poll
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, RunningEnforcement
from tests.running_service import carry_down, carry_up

__all__ = ["city", "clock", "county", "neighbour", "registries", "service", "short_poll"]
# Fixtures of the enforcement tests, which pytest finds by their names here.


class Shell:
    """The command line of an officer of one platform."""

    def __init__(self, command: str, service: RunningEnforcement, directory: Path, role: Role = Role.OFFICER) -> None:
        self._command = command
        self.token_file = directory / f"{service.platform}-{role}.token"
        self.token_file.write_text(service.access.person(role, name=f"{role}-1".lower().replace("_", "-")))
        self._options = ["--enforcement", service.address, "--token-file", str(self.token_file)]

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        # Wide enough that no table folds.
        return CliRunner().invoke(
            main, [self._command, *arguments, *self._options], env={"COLUMNS": "250"}, input=typed
        )

    def done(self, *arguments: str, typed: str | None = None) -> str:
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        return result.output

    def document(self, *arguments: str) -> Any:
        # Log lines of the services, which run in this process, stand before it.
        return json.loads(self.done(*arguments, "--json").splitlines()[-1])

    def refused(self, *arguments: str, exit_code: int = 1) -> str:
        result = self.run(*arguments)
        assert result.exit_code == exit_code, result.output
        return result.output


@pytest.fixture
def city_shell(city: RunningEnforcement, tmp_path: Path) -> Shell:
    return Shell("notice", city, tmp_path)


@pytest.fixture
def county_shell(county: RunningEnforcement, tmp_path: Path) -> Shell:
    return Shell("notice", county, tmp_path)


ISSUE = ("issue", "--id", "n-1", "--to", COUNTY, "--title", "关于核查的通报", "--body", "请核查。")


def test_a_notice_from_issue_to_acknowledgement(
    city: RunningEnforcement, county: RunningEnforcement, city_shell: Shell, county_shell: Shell
) -> None:
    issued = city_shell.done(*ISSUE, "--kind", "instruction", "--officer", "示例甲", "--deadline", "2025-03-02 18:00")
    carry_down(city, county)
    received = county_shell.done("list", "--direction", "received", "--standing", "open")
    acknowledged = county_shell.done("acknowledge", "n-1", "--issuer", CITY, "--officer", "示例乙", "--text", "已传达")
    again = county_shell.done("acknowledge", "n-1", "--issuer", CITY, "--officer", "示例丙")
    carry_up(county, city)
    shown = city_shell.done("show", "n-1")

    # Times are China Standard Time: the clock stands at noon there.
    for words in ("n-1", "督办", "关于核查的通报", "请核查。", "示例甲 (person/officer-1)", "2025-03-01 12:00:00"):
        assert words in issued
    assert "2025-03-02 18:00:00" in issued
    assert "Overdue\n" not in issued
    assert "received 已送达" in received
    assert "acknowledged 已签收" in acknowledged
    assert "此前已签收" in again
    assert "示例乙" in again
    assert "示例丙" not in again
    assert "1/1" in shown
    assert "示例乙 (person/officer-1)" in shown
    assert "已传达" in shown
    assert "时间为北京时间" in shown
    assert county_shell.done("list", "--standing", "open").splitlines()[-1] == "no notices 无通报"


def test_documents_hold_what_the_contract_says(city_shell: Shell) -> None:
    issued = city_shell.document(*ISSUE)
    listed = city_shell.document("list")
    shown = city_shell.document("show", "n-1")

    assert issued["notice"]["recipients"] == [COUNTY]
    assert listed == {"notices": [issued], "has_more": False}
    assert shown["recipients"] == [{"platform_code": COUNTY, "state": "RECIPIENT_STATE_SENT"}]


def test_lists_are_cut_and_say_so(city_shell: Shell) -> None:
    for number in range(3):
        city_shell.done("issue", "--id", f"n-{number}", *ISSUE[3:])

    assert "more than 2" in city_shell.done("list", "--limit", "2")
    assert len(city_shell.document("list", "--limit", "2")["notices"]) == 2
    assert [len(city_shell.document("list", "--limit", "3")["notices"])] == [3]


def test_a_notice_is_taken_back(city_shell: Shell) -> None:
    city_shell.done(*ISSUE)

    withdrawn = city_shell.done("withdraw", "n-1", "--reason", "内容有误")

    assert "内容有误" in withdrawn
    assert "withdrawn 已撤回" in city_shell.done("list")


def test_the_text_comes_from_a_file_or_from_here(city_shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeff第一行\r\n第二行\r\n".encode())
    options = ("issue", "--to", COUNTY, "--title", "标题")

    from_file = city_shell.document(*options, "--body-file", str(path))
    typed = city_shell.run(*options, "--body-file", "-", "--json", typed="在此输入\n")
    path.write_bytes("通报".encode("gb18030"))
    other = city_shell.refused(*options, "--body-file", str(path), exit_code=2)

    assert from_file["notice"]["body"] == "第一行\n第二行"
    assert json.loads(typed.output.splitlines()[-1])["notice"]["body"] == "在此输入"
    assert "不是 UTF-8" in other
    assert "--body" in city_shell.refused(*options, exit_code=2)


def test_an_id_is_made_when_none_is_given(city_shell: Shell) -> None:
    first, second = (city_shell.document("issue", *ISSUE[3:])["notice"]["notice_id"] for _ in range(2))

    assert first != second
    assert first.startswith("n-")


def test_refusals_are_told_whole(city_shell: Shell, city: RunningEnforcement, tmp_path: Path) -> None:
    outside = city_shell.refused("issue", "--to", "140000", "--to", "141100", "--title", "x", "--body", "x")
    missing = city_shell.refused("issue", "--to", "141099", "--title", "x", "--body", "x")
    bad = city_shell.refused("issue", "--id", "a b", "--to", "x", "--title", "x", "--body", "x")
    unknown = city_shell.refused("show", "n-9")
    forbidden = Shell("notice", city, tmp_path, Role.VIEWER).refused(*ISSUE)

    assert "OUTSIDE_SCOPE" in outside
    assert "notice.audiences[1]" in outside
    assert "141099 尚无登记平台" in missing
    assert "notice.audiences[0]" in bad
    assert "NOT_FOUND" in unknown
    assert "PERMISSION_MISSING" in forbidden
    assert "viewer.token" in forbidden.lower()


def test_who_does_not_know_what_became_of_it_repeats_it(city: RunningEnforcement, city_shell: Shell) -> None:
    city.stop()
    unreachable = city_shell.refused(*ISSUE)
    city.start()

    assert "可用相同编号重试: --id n-1" in unreachable


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-03-05 18:00", datetime(2025, 3, 5, 10, 0, tzinfo=UTC)),
        ("2025-03-05", datetime(2025, 3, 4, 16, 0, tzinfo=UTC)),
        ("2025-03-05T18:00:00+00:00", datetime(2025, 3, 5, 18, 0, tzinfo=UTC)),
    ],
)
def test_times_are_those_of_china_unless_said(city_shell: Shell, written: str, meant: datetime) -> None:
    issued = city_shell.document(*ISSUE, "--deadline", written)

    assert issued["notice"]["deadline_time"] == meant.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_what_is_no_time_is_refused(city_shell: Shell) -> None:
    assert "时间格式不正确" in city_shell.refused(*ISSUE, "--deadline", "soon", exit_code=2)


def test_a_service_is_named_once(city_shell: Shell, tmp_path: Path) -> None:
    assert "not both" in city_shell.refused("list", "--data", str(tmp_path), exit_code=2)


def test_texts_are_shown_as_they_are(city_shell: Shell) -> None:
    # What looks like markup is text of the issuer's.
    title = "[red]红[/red]"

    issued = city_shell.done("issue", "--id", "n-1", "--to", NEIGHBOUR, "--title", title, "--body", "[bold]")

    assert title in issued
    assert "[bold]" in issued
    assert title in city_shell.done("list")


def test_a_notice_that_asks_nobody_says_so(city_shell: Shell) -> None:
    options = ("issue", "--id", "n-1", "--to", "141099", "--title", "x", "--body", "x", "--allow-missing-platforms")

    assert "nobody asked 无应答平台" in city_shell.done(*options)
