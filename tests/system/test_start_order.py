"""Starts in every order: levels from below and from above, and the services of one platform one by one."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from cli import up_credentials, up_secrets
from cli.platform_layout import LOOPBACK, SERVICES, PlatformFiles, ServiceAddresses, addresses, reserve_any
from cli.postgres import EmbeddedPostgres
from cli.simulate.site import COUNTY, make_site
from cli.up_health import HealthChecks
from cli.up_options import PLAINTEXT_VARIABLE, address_variable, database_variable
from cli.up_signing_key import ensure
from services.common.access.tokens import bearer
from services.common.rpc_client import connect
from tests.system.checker import STREAMS, Checker, Held, describe
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.history import History
from tests.system.journals import read_positions, read_relay
from tests.system.levels import copy_directory
from tests.system.reaching import Place
from tests.system.registering import register_and_weigh
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

RECORDS = 300
STARTED_SECONDS_MAX = 60.0
STOPPED_SECONDS_MAX = 30.0
# Of all orders, as many as the time allows; which ones, the seed decides.
ORDERS_TRIED = 2

# What `zhichao up` starts with is called-first; the other orders are what happens without it.
ORDERS = [order for order in itertools.permutations(SERVICES) if order != tuple(SERVICES)]


@pytest.mark.parametrize("heights", [(0, 1, 2), (0, 2, 1)], ids=["province last", "city last"])
def test_levels_start_in_any_order(make_levels: MakeLevels, seed: int, heights: Sequence[int]) -> None:
    levels = make_levels()
    for height in heights:
        levels.start([levels.all[height]])
        if height == 0:
            levels.register()
            source = RecordSource(levels.site, seed=seed, limit=RECORDS)
            record_all(levels.gate, source, levels.history, seconds_max=60)
    levels.check()


class Service:
    """One service as a process of its own, without `up` around it."""

    def __init__(
        self, name: str, places: Mapping[str, ServiceAddresses], urls: Mapping[str, str], directory: Path
    ) -> None:
        self._log = directory / f"{name}.log"
        place = places[name]
        self._health = HealthChecks({name: place.health})
        environment = {
            **os.environ,
            "ZHICHAO_PLATFORM": COUNTY,
            "ZHICHAO_SIGNING_KEY_FILE": str(directory / "keys" / "signing.pem"),
            "ZHICHAO_LOG_FORMAT": "json",
            "ZHICHAO_RELAY_UPSTREAM": "",
            PLAINTEXT_VARIABLE: "true",
            **up_secrets.ensure(PlatformFiles(directory), {}).environment(),
            f"ZHICHAO_{name.upper()}_LISTEN": place.listen,
            f"ZHICHAO_{name.upper()}_HEALTH_LISTEN": place.health,
            **{address_variable(name, called): places[called].local for called in SERVICES[name].calls},
        }
        if name in urls:
            environment[database_variable(name)] = urls[name]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services", name], env=environment, stdout=log, stderr=log
            )

    def wait_serving(self) -> None:
        """Wait until it serves, whether or not what it calls does."""
        wait_until(self._is_serving, STARTED_SECONDS_MAX, lambda: f"does not serve:\n{self._log.read_text()}")

    def stop(self) -> int:
        """Stop it and return its exit status."""
        self._health.__exit__(None, None, None)
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOPPED_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not stop:\n{self._log.read_text()}") from None

    def _is_serving(self) -> bool:
        assert self._process.poll() is None, f"ended while it started:\n{self._log.read_text()}"
        return not self._health.not_serving()


@contextmanager
def running(order: Sequence[str], urls: Mapping[str, str], directory: Path) -> Iterator[dict[str, Place]]:
    """Start services one after the other, each once the one before serves; stop them in the same order.

    Tokens of the machine's people are issued when all serve, unless they have theirs from an earlier start.
    """
    base_port, reservation = reserve_any(LOOPBACK)
    services: list[Service] = []
    with reservation:
        places = addresses(SERVICES, LOOPBACK, base_port)
        try:
            for name in order:
                services.append(Service(name, places, urls, directory))
                services[-1].wait_serving()
            files = PlatformFiles(directory)
            up_credentials.ensure(
                COUNTY,
                files.secrets,
                files.bootstrap_token,
                lambda token: connect(places["registry"].local, credentials=lambda: bearer(token)),
            )
            yield {name: Place(place.local, directory) for name, place in places.items()}
        finally:
            statuses = [service.stop() for service in services]
    assert statuses == [0] * len(order)


def test_services_start_and_stop_in_any_order(directory: Path, database_template: Path, seed: int) -> None:
    orders = Random(f"orders {seed}").sample(ORDERS, ORDERS_TRIED)
    site, history = make_site(seed=seed, units=3), History()
    copy_directory(database_template, directory / "postgres")
    ensure(directory / "keys" / "signing.pem")
    with EmbeddedPostgres(directory / "postgres", databases=STREAMS) as server:
        urls = {name: server.url(name) for name in STREAMS}
        source = RecordSource(site, seed=seed)
        for order in orders:
            print(" → ".join(order))
            with running(order, urls, directory) as found:
                gate = register_and_weigh(site, history, found)
                record_all(gate, source, history, records_max=RECORDS, seconds_max=60)
                wait_until(lambda found=found: relay_has_seen_all(found), 30, "the relay does not see all")  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
                findings = Checker([Held(COUNTY, found)], history).check()
                assert not findings, describe(findings)


def relay_has_seen_all(found: Mapping[str, Place]) -> bool:
    status = read_relay(found["relay"])
    sizes = {(log.stream, log.local_size) for log in status.progress}
    wanted = {(stream, read_positions(found[stream])[COUNTY].size) for stream in STREAMS}
    return status.state == relay_pb2.LINK_STATE_NO_UPSTREAM and sizes == wanted
