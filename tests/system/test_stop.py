"""SIGTERM under load at every level in turn: what runs is finished, nothing that was acknowledged is lost."""

import pytest

from cli.up_options import ExitCode
from tests.system.clients import Clients, RecordSource
from tests.system.conftest import MakeLevels

pytestmark = pytest.mark.system


def test_every_level_stops_in_order_while_records_come_in(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    with Clients(levels.gate, source, levels.history, seed=seed, records_per_second=400) as clients:
        # The county twice: its clients are in the middle of something else each time.
        for level in (levels.county, levels.city, levels.county, levels.province):
            clients.wait_acknowledged(200, 60)
            assert level.process.terminate() == ExitCode.STOPPED, level.process.log_tail()
            log = level.process.log_text()
            assert "service_process_killed" not in log
            assert "postgres_stop_slow" not in log
            level.process.start()
        clients.drain()
    levels.check()
