"""Starts in every order: levels from below and from above, and the services of one platform in any order."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from cli.platform_layout import LOOPBACK, SERVICES, addresses, reserve_any
from cli.simulate.site import COUNTY
from cli.up_health import HealthChecks
from cli.up_options import address_variable, database_variable
from cli.up_signing_key import ensure
from cli.postgres import EmbeddedPostgres
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.levels import copy_directory
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 300


@pytest.mark.parametrize("heights", [(0, 1, 2), (1, 0, 2), (0, 2, 1)], ids=["upwards", "province last", "city last"])
def test_levels_start_in_any_order(make_levels: MakeLevels, seed: int, heights: Sequence[int]) -> None:
    levels = make_levels()
    for height in heights:
        levels.start([levels.all[height]])
        if height == 0:
            levels.register()
            source = RecordSource(levels.site, seed=seed, limit=RECORDS)
            record_all(levels.county.addresses["weighing"], source, levels.history, seconds_max=60)
    levels.check()
