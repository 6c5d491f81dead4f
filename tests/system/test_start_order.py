"""Starts in every order: levels from below and from above, the services of one platform one by one, and without the
registry, as after a power cut from which it does not come back.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import grpc
import psycopg
import pytest

from cli import up_credentials, up_secrets
from cli.platform_layout import LOOPBACK, SERVICES, PlatformFiles, ServiceAddresses, addresses, reserve_any
from cli.postgres import EmbeddedPostgres
from cli.simulate.site import COUNTY, make_site
from cli.up_health import HealthChecks
from cli.up_options import PLAINTEXT_VARIABLE, address_variable, database_variable
from cli.up_signing_key import ensure
from services.common.access.tokens import bearer, format_token, new_secret
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from tests.system.checker import STREAMS, Checker, Held, describe
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.history import History
from tests.system.journals import CALL_SECONDS, calling, read_positions, read_relay
from tests.system.levels import copy_directory
from tests.system.reaching import SECURITY, Gate, Place
from tests.system.registering import register_and_weigh
from tests.system.waiting import wait_until
from zhichao.access.v1 import credential_pb2
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.relay.v1 import relay_pb2
from zhichao.weighing.v1 import service_pb2
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

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
        self,
        name: str,
        places: Mapping[str, ServiceAddresses],
        urls: Mapping[str, str],
        directory: Path,
        settings: Mapping[str, str] | None = None,
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
        if name == "video":
            environment |= store_settings(directory)
        environment |= settings or {}
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
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not stop:\n{self._log.read_text()}") from None

    def kill(self) -> None:
        """End it as a power cut does."""
        self._health.__exit__(None, None, None)
        self._process.kill()
        self._process.wait(STOPPED_SECONDS_MAX)

    def _is_serving(self) -> bool:
        assert self._process.poll() is None, f"ended while it started:\n{self._log.read_text()}"
        return not self._health.not_serving()


def store_settings(directory: Path) -> dict[str, str]:
    """Return the settings of an evidence store that is away, which keeps nobody from starting."""
    keys = {"ACCESS": directory / "access.key", "SECRET": directory / "secret.key"}
    for path in keys.values():
        path.write_text("away")
    return {
        # The discard port (RFC 863): nobody listens there.
        "ZHICHAO_VIDEO_S3_ENDPOINT": "http://127.0.0.1:9",
        "ZHICHAO_VIDEO_SPOOL_DIRECTORY": str(directory / "spool"),
        **{f"ZHICHAO_VIDEO_S3_{name}_KEY_FILE": str(path) for name, path in keys.items()},
    }


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
            issue_local(places, directory)
            yield {name: Place(place.local, directory) for name, place in places.items()}
        finally:
            statuses: list[int] = []
            with ExitStack() as stack:
                # One that does not stop keeps none of the others running.
                for service in reversed(services):
                    stack.callback(lambda service=service: statuses.append(service.stop()))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
    assert statuses == [0] * len(order)


def issue_local(places: Mapping[str, ServiceAddresses], directory: Path) -> None:
    """Issue the credentials of the machine's people, unless they have theirs from an earlier start."""
    files = PlatformFiles(directory)
    up_credentials.ensure(
        COUNTY,
        files.secrets,
        files.bootstrap_token,
        lambda token: connect(places["registry"].local, credentials=lambda: bearer(token)),
    )


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


def test_weighing_starts_without_the_registry_and_knows_its_terminals(
    directory: Path, database_template: Path, seed: int
) -> None:
    """By what it has kept of the registry's word: no weighing is refused because the registry does not come back."""
    site, history = make_site(seed=seed, units=2), History()
    copy_directory(database_template, directory / "postgres")
    ensure(directory / "keys" / "signing.pem")
    with EmbeddedPostgres(directory / "postgres", databases=STREAMS) as server, ExitStack() as stack:
        urls = {name: server.url(name) for name in STREAMS}
        source = RecordSource(site, seed=seed)
        base_port, reservation = reserve_any(LOOPBACK)
        stack.enter_context(reservation)
        places = addresses(SERVICES, LOOPBACK, base_port)

        def start(name: str, **settings: str) -> Service:
            service = Service(name, places, urls, directory, settings)
            stack.callback(service.kill)
            service.wait_serving()
            return service

        registry, weighing = start("registry"), start("weighing")
        issue_local(places, directory)
        found = {name: Place(place.local, directory) for name, place in places.items()}
        gate = register_and_weigh(site, history, found)
        unit = site.units[0].source_unit_id
        lost = issue_and_revoke(found["registry"], unit)
        wait_until(lambda: refusal(gate, lost, unit) is Reason.CREDENTIAL_REVOKED, 30, "the revocation is not known")
        wait_until(lambda: is_kept(urls["weighing"], "lost"), 30, "the revocation is not kept")
        registry.kill()
        weighing.kill()

        weighing = start("weighing")
        record_all(gate, source, history, records_max=RECORDS, seconds_max=60)
        for terminal in gate.terminal_tokens.values():
            assert refusal(gate, terminal, unit) not in (Reason.ACCESS_UNKNOWN, Reason.INVALID_CREDENTIALS)
        assert refusal(gate, lost, unit) is Reason.CREDENTIAL_REVOKED
        nobody = format_token("nobody", new_secret())
        # Within ten seconds of its last word the registry cannot have issued what is not known.
        wait_until(
            lambda: refusal(gate, nobody, unit) is Reason.ACCESS_UNKNOWN, 30, "somebody unknown is refused for good"
        )
        assert weighing.stop() == 0

        # What it keeps is not good for ever.
        weighing = start("weighing", ZHICHAO_CREDENTIALS_STALE_SECONDS="0.001")
        assert refusal(gate, gate.firm_token, unit) is Reason.ACCESS_UNKNOWN
        assert weighing.stop() == 0
        assert history.oddities == []

        with running(tuple(SERVICES), urls, directory) as again:
            gate = register_and_weigh(site, history, again)
            record_all(gate, source, history, records_max=RECORDS, seconds_max=60)
            findings = Checker([Held(COUNTY, again)], history).check()
            assert not findings, describe(findings)


def issue_and_revoke(registry: Place, unit: str) -> str:
    """Issue a terminal's credential, revoke it, and return its token."""
    with calling(registry, SECURITY) as channel:
        stub = AccessServiceStub(channel)
        credential = credential_pb2.Credential(
            credential_id="lost",
            kind=credential_pb2.PRINCIPAL_KIND_TERMINAL,
            display_name="遗失的终端",
            source_unit_ids=[unit],
        )
        request = access_pb2.CreateCredentialRequest(credential=credential)
        token = stub.CreateCredential(request, timeout=CALL_SECONDS).token
        stub.RevokeCredential(
            access_pb2.RevokeCredentialRequest(credential_id="lost", reason="遗失"), timeout=CALL_SECONDS
        )
    return str(token)


def refusal(gate: Gate, token: str, unit: str) -> Reason | None:
    """Ask with a token; return why it was refused."""
    with connect(gate.address, credentials=lambda: bearer(token)) as channel:
        request = service_pb2.ListWeighingsRequest(filter=service_pb2.WeighingFilter(source_unit_id=unit))
        try:
            WeighingServiceStub(channel).ListWeighings(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return service_error(error).reason
    return None


def is_kept(url: str, credential_id: str) -> bool:
    """Tell whether a service keeps a credential as revoked."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT statement FROM access_statements").fetchone()
    said = access_pb2.WatchAccessResponse.FromString(row[0]) if row else access_pb2.WatchAccessResponse()
    return any(one.credential_id == credential_id and one.HasField("revoke_time") for one in said.credentials)


def relay_has_seen_all(found: Mapping[str, Place]) -> bool:
    status = read_relay(found["relay"])
    sizes = {(log.stream, log.local_size) for log in status.progress}
    wanted = {(stream, read_positions(found[stream])[COUNTY].size) for stream in STREAMS}
    return status.state == relay_pb2.LINK_STATE_NO_UPSTREAM and sizes == wanted
