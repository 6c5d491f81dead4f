"""A bad network between clients, county, city and province, and an upstream that is away while a backlog grows."""

from random import Random

import pytest

from tests.faults.proxy import Fault, FaultProxy, Kind
from tests.system.clients import Clients, RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 4_000
# An outage of some hours at a busy county.
BACKLOG_RECORDS = 20_000
FAULTS_EACH = 5

# Bytes after which a connection breaks: from amid the first frames to amid a batch of a few hundred records.
CUT_BYTES = (60, 150_000)
DELAY_MILLISECONDS = (5, 40)


def draw_faults(rng: Random, count: int) -> list[Fault]:
    """Draw what becomes of the next connections; each one ends by itself, except one that is only slow."""
    faults = []
    for _ in range(count):
        kind = rng.choice((Kind.CUT_PUSHES, Kind.CUT_ANSWERS, Kind.REFUSE, Kind.DELAY))
        low, high = DELAY_MILLISECONDS if kind is Kind.DELAY else CUT_BYTES
        faults.append(Fault(kind, rng.randint(low, high)))
    return faults


def test_connections_are_cut_delayed_and_refused_everywhere(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    rng = Random(f"network {seed}")
    proxies = [levels.county.weighing_proxy, levels.city.relay_proxy, levels.province.relay_proxy]
    for proxy in proxies:
        proxy.plan(draw_faults(rng, FAULTS_EACH))
        proxy.cut()
    source = RecordSource(levels.site, seed=seed, limit=RECORDS)
    with Clients(levels.proxied_gate, source, levels.history, seed=seed, records_per_second=500) as clients:
        for _ in range(2 * FAULTS_EACH):
            # Also what the script left alone breaks once in a while, in the middle of whatever it carries.
            clients.wait_acknowledged(RECORDS // 4 // FAULTS_EACH, 60)
            rng.choice(proxies).cut()
        clients.drain()
    levels.check()
    assert levels.history.failure_count > 0


def test_a_network_that_swallows_everything(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    source = RecordSource(levels.site, seed=seed)
    dark: list[FaultProxy] = [levels.city.relay_proxy, levels.province.relay_proxy]
    with Clients(levels.gate, source, levels.history, seed=seed, records_per_second=50) as clients:
        for proxy in dark:
            proxy.blackhole()
        # Connections that hang say nothing, so the relays have to find out by themselves.
        for level in (levels.county, levels.city):
            level.wait_state(relay_pb2.LINK_STATE_CONNECTING)
        for proxy in dark:
            proxy.blackhole(is_dark=False)
        clients.drain()
    assert levels.history.failure_count == 0, "a county works whether or not its upstream is there"
    levels.check()


def test_a_backlog_of_an_outage_is_caught_up_with(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    levels.wait_current()
    levels.city.relay_proxy.refuse()
    source = RecordSource(levels.site, seed=seed, limit=BACKLOG_RECORDS)
    record_all(levels.gate, source, levels.history, seconds_max=90)
    assert levels.county.status().state == relay_pb2.LINK_STATE_CONNECTING
    wait_until(
        lambda: sum(log.lag_records for log in levels.county.status().progress) == BACKLOG_RECORDS,
        30,
        lambda: f"the relay does not tell the backlog: {levels.county.seen()}",
    )
    before = levels.city.weighing_size()
    levels.city.relay_proxy.refuse(is_refusing=False)
    wait_until(lambda: levels.city.weighing_size() > before, 60, "the city receives nothing")
    # Half of the way the upper link breaks too.
    levels.province.relay_proxy.cut()
    levels.check()
