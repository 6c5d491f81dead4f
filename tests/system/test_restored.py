"""Databases that are set back to an older copy: above, what is missing is sent again; below, it is fetched back, and
where something else was written meanwhile, nothing is overwritten.
"""

import shutil
from pathlib import Path

import pytest

from cli.simulate.site import CITY, COUNTY
from cli.up_options import ExitCode
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.journals import read_log, read_positions
from tests.system.levels import Level, copy_directory
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 700
REFUSED_SECONDS_MAX = 60.0


def stop_and_copy(level: Level, copy: Path) -> None:
    assert level.process.terminate() == ExitCode.STOPPED
    copy_directory(level.directory, copy)


def restore(level: Level, copy: Path) -> None:
    """Put an older copy of everything in the place of what is there; the key is the same, it never changes."""
    assert level.process.terminate() == ExitCode.STOPPED
    shutil.rmtree(level.directory)
    copy_directory(copy, level.directory)
    level.process.start()


def refusals(level: Level) -> dict[str, str]:
    """Return the reasons why logs do not advance, by stream."""
    return {log.stream: log.refusal_reason for log in level.status().progress if log.refusal_reason}


def test_a_city_that_was_set_back_is_sent_everything_again(make_levels: MakeLevels, directory: Path, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()
    stop_and_copy(levels.city, directory / "copy")
    levels.city.process.start()
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()

    restore(levels.city, directory / "copy")
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    # In between the province holds more than the city, which must not be taken for two histories for good.
    levels.check()


def test_a_county_that_was_set_back_gets_back_what_only_others_hold(
    make_levels: MakeLevels, directory: Path, seed: int
) -> None:
    levels = make_levels(platforms=(COUNTY, CITY)).start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    county = levels.county
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()
    stop_and_copy(county, directory / "copy")
    county.process.start()
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()
    size = county.weighing_size()

    # Nobody said that it was restored: the relay finds out.
    restore(county, directory / "copy")
    wait_until(lambda: county.weighing_size() >= size, REFUSED_SECONDS_MAX, lambda: f"not whole again: {county.seen()}")
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    # Every record that was ever acknowledged is there, with its row and its receipt, at both.
    levels.check()


def test_a_county_that_was_set_back_and_wrote_on_overwrites_nothing(
    make_levels: MakeLevels, directory: Path, seed: int
) -> None:
    levels = make_levels(platforms=(COUNTY, CITY)).start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    county, city = levels.county, levels.city
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()
    stop_and_copy(county, directory / "copy")
    county.process.start()
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.check()
    held = read_log(city.places["weighing"], read_positions(city.places["weighing"])[COUNTY])

    # It is set back by hand while it is cut off, and takes other records at these places.
    city.relay_proxy.refuse()
    restore(county, directory / "copy")
    record_all(levels.gate, source, levels.history, records_max=RECORDS // 2, seconds_max=60)
    city.relay_proxy.refuse(is_refusing=False)
    wait_until(
        lambda: refusals(county).get("weighing") == "HISTORY_MISMATCH",
        REFUSED_SECONDS_MAX,
        lambda: f"the county does not notice that there are two histories: {county.seen()}",
    )
    status = county.status()
    assert status.state == relay_pb2.LINK_STATE_REFUSED
    (message,) = [log.refusal_message for log in status.progress if log.stream == "weighing"]
    assert "ZHICHAO_RECOVERING=true" in message

    # It goes on, until it holds more entries than the city: other ones.
    record_all(levels.gate, source, levels.history, records_max=2 * RECORDS, seconds_max=60)
    assert county.weighing_size() > len(held.entries)
    wait_until(
        lambda: refusals(county).get("weighing") == "HISTORY_MISMATCH",
        REFUSED_SECONDS_MAX,
        lambda: f"the county does not notice that there are two histories: {county.seen()}",
    )
    after = read_log(city.places["weighing"], read_positions(city.places["weighing"])[COUNTY])
    assert (after.entries, after.position, after.newest_note) == (held.entries, held.position, held.newest_note)
