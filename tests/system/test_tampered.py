"""An entry changed in the county's database behind the services' back: refused above, loudly, not spread."""

from collections.abc import Mapping

import psycopg
import pytest

from cli.simulate.site import COUNTY
from tests.system.checker import Checker
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.levels import Level, Levels
from tests.system.proofs import leaf_of
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 400
REFUSED_SECONDS_MAX = 60.0


def read_entry(level: Level, sequence: int) -> bytes:
    with psycopg.connect(level.process.database_url("weighing")) as connection:
        row = connection.execute(
            "SELECT entry FROM journal_entries WHERE origin = %s AND sequence = %s", (COUNTY, sequence)
        ).fetchone()
        assert row is not None
        return bytes(row[0])


def write(level: Level, sequence: int, columns: Mapping[str, bytes]) -> None:
    with psycopg.connect(level.process.database_url("weighing")) as connection:
        for column, value in columns.items():
            connection.execute(
                f"UPDATE journal_entries SET {column} = %s WHERE origin = %s AND sequence = %s".encode(),  # noqa: S608 - constants of the test
                (value, COUNTY, sequence),
            )


def wait_refused(levels: Levels, changed: int) -> None:
    """Wait until the city refuses the log, and check that it says so and holds nothing of the change."""
    county, city, province = levels.all
    county.wait_state(relay_pb2.LINK_STATE_REFUSED, REFUSED_SECONDS_MAX)
    (refused,) = [log for log in county.status().progress if log.refusal_reason]
    assert (refused.stream, refused.origin, refused.refusal_reason) == ("weighing", COUNTY, "HISTORY_MISMATCH")
    assert refused.refusal_message
    for level in (county, city):
        assert "HISTORY_MISMATCH" in level.process.log_text(), f"{level.platform} logs nothing about it"
    # What came before the batch may be held; the changed entry is nowhere, and the other logs go on.
    assert city.weighing_size() < changed
    wait_until(lambda: province.weighing_size() == city.weighing_size(), 60, "the city does not push any more")
    city.wait_state(relay_pb2.LINK_STATE_CURRENT)


def try_again(county: Level) -> None:
    """Restart the services: a relay tries a refused log again by itself only after half a minute."""
    county.process.wait_restarted("relay", county.process.kill_service("relay"))


def test_a_changed_entry_does_not_spread(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    county = levels.county
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    levels.wait_current()
    before = county.weighing_size()
    levels.city.relay_proxy.refuse()
    record_all(levels.gate, source, levels.history, records_max=RECORDS, seconds_max=60)
    changed = before + RECORDS // 2
    entry = read_entry(county, changed)
    # A truck that is 10 t lighter would do; one bit is enough.
    forged = entry[:-1] + bytes([entry[-1] ^ 1])

    write(county, changed, {"entry": forged})
    levels.city.relay_proxy.refuse(is_refusing=False)
    wait_refused(levels, changed)

    # Somebody who knows of leaf digests fares no better.
    write(county, changed, {"leaf": leaf_of(forged)})
    try_again(county)
    wait_refused(levels, changed)
    findings = Checker([county.held], levels.history, checks_rows=False).check()
    assert any("the root is not that of the entries" in finding for finding in findings), findings

    write(county, changed, {"entry": entry, "leaf": leaf_of(entry)})
    try_again(county)
    levels.check()
