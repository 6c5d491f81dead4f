"""A county that stands alone for a while and is given an upstream later: everything goes up from sequence 1."""

import pytest

from cli.up_options import ExitCode
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 2_500


def test_everything_goes_up_from_the_first_entry(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels()
    county = levels.county
    upstream, county.process.upstream = county.process.upstream, ""
    levels.start([county])
    levels.register()
    record_all(
        levels.gate,
        RecordSource(levels.site, seed=seed, limit=RECORDS),
        levels.history,
        seconds_max=60,
    )
    status = county.status()
    assert (status.state, status.upstream_address) == (relay_pb2.LINK_STATE_NO_UPSTREAM, "")
    assert [log.lag_records for log in status.progress] == [0, 0, 0, 0]
    assert county.process.terminate() == ExitCode.STOPPED

    county.process.upstream = upstream
    levels.start()
    # Nothing is sent any more: what goes up was there before.
    levels.check()
    assert county.status().upstream_platform == levels.city.platform
