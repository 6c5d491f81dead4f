"""What a province says goes down to a county through the city, whatever is cut meanwhile, and what the county makes of
it comes up: sent, received and acted on are seen above, with times.
"""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.simulate.registration import register_below
from cli.simulate.site import CITY, COUNTY
from tests.system.conftest import MakeLevels
from tests.system.journals import calling
from tests.system.levels import Level
from tests.system.reaching import OPERATOR
from tests.system.waiting import wait_until
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

SECONDS_MAX = 90.0


def run(level: Level, *arguments: str) -> Any:
    """Run a command of the machine's operator at one level and return its JSON."""
    result = CliRunner().invoke(main, [*arguments, "--data", str(level.directory), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output.splitlines()[-1])


def received(level: Level, command: str) -> int:
    """Return how many directives from above a level holds."""
    result = CliRunner().invoke(
        main, [command, "list", "--direction", "received", "--data", str(level.directory), "--json"]
    )
    if result.exit_code != 0:
        return 0
    (listed,) = [value for value in json.loads(result.output.splitlines()[-1]).values() if isinstance(value, list)]
    return len(listed)


def recipient(level: Level, command: str, directive: str) -> dict[str, Any]:
    (one,) = run(level, command, "show", directive)["recipients"]
    return dict(one)


def test_notices_and_duty_checks_pass_two_hops_through_outages(make_levels: MakeLevels) -> None:
    levels = make_levels().start()
    county, city, province = levels.all
    with calling(province.places["registry"], OPERATOR) as channel:
        register_below(registry_grpc.RegistryServiceStub(channel), COUNTY, CITY)
    levels.wait_current()

    # Both links are cut while the province speaks.
    city.relay_proxy.refuse()
    province.relay_proxy.refuse()
    run(province, "notice", "issue", "--id", "n-1", "--to", COUNTY, "--title", "关于核查的通报", "--body", "请核查。")
    run(
        province,
        "duty-check",
        "issue",
        "--id",
        "d-1",
        "--to",
        COUNTY,
        "--question",
        "今日值班负责人?",
        "--minutes",
        "60",
    )
    sent = recipient(province, "notice", "n-1")
    assert sent["platform_code"] == COUNTY
    assert "receive_time" not in sent

    # One hop after the other: the city holds it for the county.
    province.relay_proxy.refuse(is_refusing=False)
    city.wait_state(relay_pb2.LINK_STATE_CURRENT)
    assert received(county, "notice") == 0
    city.relay_proxy.refuse(is_refusing=False)
    for command in ("notice", "duty-check"):
        wait_until(
            lambda command=command: received(county, command) == 1,  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            SECONDS_MAX,
            lambda: f"the county did not get it: {county.seen()}",
        )
    wait_until(
        lambda: "receive_time" in recipient(province, "notice", "n-1"),
        SECONDS_MAX,
        "the county's receipt did not come up",
    )

    # The county answers while it is cut off; its relay and the city's are killed before it is joined again.
    city.relay_proxy.refuse()
    run(county, "notice", "acknowledge", "n-1", "--issuer", province.platform, "--officer", "示例甲")
    run(county, "duty-check", "answer", "d-1", "示例乙", "--issuer", province.platform, "--officer", "示例甲")
    for level in (county, city):
        level.process.kill_everything()
        level.process.start()
    city.relay_proxy.refuse(is_refusing=False)
    wait_until(
        lambda: "acknowledgement" in recipient(province, "notice", "n-1"),
        SECONDS_MAX,
        lambda: f"the acknowledgement did not come up: {recipient(province, 'notice', 'n-1')}",
    )
    wait_until(
        lambda: "answer" in recipient(province, "duty-check", "d-1"),
        SECONDS_MAX,
        lambda: f"the answer did not come up: {recipient(province, 'duty-check', 'd-1')}",
    )
    acknowledged = recipient(province, "notice", "n-1")
    assert acknowledged["receive_time"] < acknowledged["acknowledgement"]["acknowledge_time"]
    # Each came down once, and everybody agrees on it.
    assert received(county, "notice") == 1
    levels.check()
