"""A quiet run: three levels from nothing, no faults; everything arrives, is cosigned, and the links say so."""

from pathlib import Path

import pytest

from cli.simulate.site import CITY, COUNTY, PROVINCE
from tests.system.clients import Clients, RecordSource
from tests.system.levels import Levels
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 3_000


def test_everything_arrives_at_all_levels(directory: Path, seed: int) -> None:
    levels = Levels(directory / "platforms", seed=seed)
    with levels:
        levels.register()
        source = RecordSource(levels.site, seed=seed, limit=RECORDS)
        with Clients(levels.gate, source, levels.history, seed=seed, records_per_second=1_000) as clients:
            clients.wait_done(60)
        levels.check()
        assert levels.history.failure_count == 0

        status = levels.county.status()
        assert (status.platform, status.upstream_platform) == (COUNTY, CITY)
        assert {(log.stream, log.origin, log.lag_records) for log in status.progress} == {
            ("registry", COUNTY, 0),
            ("weighing", COUNTY, 0),
            ("video", COUNTY, 0),
            ("enforcement", COUNTY, 0),
        }
        assert [link.platform for link in levels.city.status().downstream_links] == [COUNTY]
        assert [link.platform for link in levels.province.status().downstream_links] == [CITY]
        assert levels.province.status().state == relay_pb2.LINK_STATE_NO_UPSTREAM
        assert levels.province.status().platform == PROVINCE
