"""Kills under load: any process of any level, the database servers and `up` itself, in a seeded order."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from cli.platform_layout import SERVICES
from cli.simulate.site import CITY, COUNTY
from tests.system.clients import Clients, RecordSource
from tests.system.conftest import MakeLevels
from tests.system.levels import Level, Levels

pytestmark = pytest.mark.system

# Load that goes on between two kills, so that each meets records under way.
RECORDS_BETWEEN = 80
# Clients try again within half a second; a service is back within three, a platform within ten on a busy machine.
ADVANCE_SECONDS_MAX = 60.0

Kill = tuple[str, Callable[[], None]]


def kill_service(level: Level, service: str) -> None:
    former = level.process.kill_service(service)
    level.process.wait_restarted(service, former)


def kill_postgres(level: Level) -> None:
    former = level.process.kill_postgres()
    level.process.wait_postgres_restarted(former)


def kill_up(level: Level) -> None:
    level.process.kill()
    level.process.start()


def cut_power(level: Level) -> None:
    level.process.kill_everything()
    level.process.start()


def run_under_load(levels: Levels, seed: int, kills: list[Kill]) -> None:
    Random(f"kills {seed}").shuffle(kills)
    source = RecordSource(levels.site, seed=seed)
    with Clients(levels.gate, source, levels.history, seed=seed, records_per_second=200) as clients:
        for name, kill in kills:
            clients.wait_acknowledged(RECORDS_BETWEEN, ADVANCE_SECONDS_MAX)
            print(f"{name}: {levels.history.summary()}")
            kill()
        clients.wait_acknowledged(RECORDS_BETWEEN, ADVANCE_SECONDS_MAX)
        clients.drain()
    levels.check()


def test_every_kind_of_process_is_killed_at_every_level(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    kills: list[Kill] = []
    for level in levels.all:
        kills += [
            (f"kill services of {level.platform}", partial(kill_service, level, "weighing")),
            (f"kill PostgreSQL of {level.platform}", partial(kill_postgres, level)),
            (f"kill up of {level.platform}", partial(kill_up, level)),
        ]
    run_under_load(levels, seed, kills)


def test_single_services_are_killed_and_the_power_is_cut(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels(platforms=(COUNTY, CITY), split=(COUNTY, CITY)).start()
    levels.register()
    kills: list[Kill] = []
    for level in levels.all:
        kills += [
            (f"kill {service} of {level.platform}", partial(kill_service, level, service)) for service in SERVICES
        ]
        kills.append((f"cut the power of {level.platform}", partial(cut_power, level)))
    run_under_load(levels, seed, kills)
