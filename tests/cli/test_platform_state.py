"""The state file of a platform, as releases of one version of it read each other's."""

import json

import pytest

from cli.platform_state import PlatformState, ProcessState

STATE = PlatformState(
    "141025",
    "serving",
    17,
    "/srv/zhichao/141025",
    addresses={"registry": "127.0.0.1:7701"},
    processes={"registry": ProcessState(18, "x")},
)


def test_what_is_written_is_read() -> None:
    assert PlatformState.from_json(STATE.to_json()) == STATE


def test_what_a_newer_release_has_added_is_passed_over() -> None:
    document = json.loads(STATE.to_json()) | {"invented_later": ["by", "somebody"]}

    assert PlatformState.from_json(json.dumps(document)) == STATE


@pytest.mark.parametrize("text", ["{}", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "processes": {}}'])
def test_what_is_no_state_of_this_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the state file of a platform"):
        PlatformState.from_json(text)
