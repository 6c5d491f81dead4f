"""The three platforms of `zhichao run`: checked, started side by side, and stopped whatever happens."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cli.certificates import make_certificates
from cli.platform_layout import LOOPBACK, PEER_OFFSET, SERVICES, addresses, is_free, join, reserve, reserve_any
from cli.platform_process import PlatformProcess, PlatformProcessError
from cli.simulate.site import CITY, COUNTY, PROVINCE
from cli.status_targets import Target

# From one level to the next: 7700, 7800, 7900 as in the documentation.
PORT_STEP = 100

# Settings of one platform in the caller's environment: three cannot share a database, a key or an upstream.
_SETTINGS_OF_ONE = (
    "ZHICHAO_REGISTRY_DATABASE_URL",
    "ZHICHAO_WEIGHING_DATABASE_URL",
    "ZHICHAO_SIGNING_KEY_FILE",
    "ZHICHAO_SECRETS_DIR",
    "ZHICHAO_RELAY_REGISTRY_ADDRESS",
    "ZHICHAO_RELAY_WEIGHING_ADDRESS",
    "ZHICHAO_WEIGHING_REGISTRY_ADDRESS",
    "ZHICHAO_VIDEO_DATABASE_URL",
    "ZHICHAO_VIDEO_REGISTRY_ADDRESS",
    "ZHICHAO_VIDEO_WEIGHING_ADDRESS",
    "ZHICHAO_VIDEO_S3_ENDPOINT",
    "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT",
    "ZHICHAO_VIDEO_S3_BUCKET",
    "ZHICHAO_VIDEO_S3_ACCESS_KEY_FILE",
    "ZHICHAO_VIDEO_S3_SECRET_KEY_FILE",
    "ZHICHAO_VIDEO_SPOOL_DIRECTORY",
    "ZHICHAO_RELAY_VIDEO_ADDRESS",
    "ZHICHAO_ENFORCEMENT_DATABASE_URL",
    "ZHICHAO_ENFORCEMENT_REGISTRY_ADDRESS",
    "ZHICHAO_RELAY_ENFORCEMENT_ADDRESS",
    "ZHICHAO_SERVICE_TOKEN_FILE",
    "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE",
    "ZHICHAO_TLS_DIR",
    "ZHICHAO_TLS_CERTIFICATE_FILE",
    "ZHICHAO_TLS_KEY_FILE",
    "ZHICHAO_TLS_CA_FILE",
    "ZHICHAO_TRUST_DOMAIN",
    "ZHICHAO_REGISTRY_METRICS_LISTEN",
    "ZHICHAO_WEIGHING_METRICS_LISTEN",
    "ZHICHAO_VIDEO_METRICS_LISTEN",
    "ZHICHAO_ENFORCEMENT_METRICS_LISTEN",
    "ZHICHAO_RELAY_METRICS_LISTEN",
)
_LOG_LEVEL = "ZHICHAO_LOG_LEVEL"

# How often a stop that was asked to hurry is looked after.
_STOP_POLL_SECONDS = 0.1


class PortsTakenError(Exception):
    """Ports that the platforms need are not free; the text names them."""


@dataclass(frozen=True)
class Level:
    """One of the three platforms."""

    code: str
    name: str
    base_port: int
    # Code of the platform above; empty at the top.
    upstream: str


def plan(base_port: int) -> list[Level]:
    """Return the levels from the county up; base port 0 finds free ports. Raises PortsTakenError."""
    if base_port == 0:
        ports = _free_ports()
    else:
        ports = [base_port, base_port + PORT_STEP, base_port + 2 * PORT_STEP]
        _check_ports(ports)
    county, city, province = ports
    return [
        Level(COUNTY, "古县", county, CITY),
        Level(CITY, "临汾市", city, PROVINCE),
        Level(PROVINCE, "山西省", province, ""),
    ]


class Levels:
    """The platforms, from the county up, joined by mutual TLS with certificates of an authority made for them."""

    def __init__(self, levels: Sequence[Level], data_directory: Path) -> None:
        """Plan the platforms; certificates are made where there are none. Raises PkiError."""
        self.levels = list(levels)
        relays = {level.code: join(LOOPBACK, level.base_port + PEER_OFFSET) for level in levels}
        certificates = make_certificates(data_directory / "pki", [level.code for level in levels])
        environment = {name: "" for name in _SETTINGS_OF_ONE if name in os.environ}
        # A line for each request of each level would only fill the disk here.
        environment.setdefault(_LOG_LEVEL, os.environ.get(_LOG_LEVEL) or "warning")
        self._platforms = {
            level.code: PlatformProcess(
                level.code,
                data_directory / level.code,
                upstream=relays.get(level.upstream, ""),
                base_port=level.base_port,
                tls_directory=certificates[level.code],
                environment=environment,
            )
            for level in levels
        }

    def start(self, report: Callable[[Level], None] = lambda level: None) -> None:
        """Start all side by side; `report` hears of each that serves. Raises PlatformProcessError."""
        for platform in self._platforms.values():
            platform.launch()

        def wait(level: Level) -> None:
            self._platforms[level.code].wait_until_serving()
            report(level)

        executor = ThreadPoolExecutor(len(self.levels), thread_name_prefix="start")
        try:
            for future in [executor.submit(wait, level) for level in self.levels]:
                future.result()
        finally:
            # An interrupted start does not wait for the others: stopping them ends their waiting.
            executor.shutdown(wait=False, cancel_futures=True)

    def target(self, code: str) -> Target:
        """Return one platform as `status` and `verify` see it."""
        state = self._platforms[code].state
        return Target(
            code,
            addresses=state.addresses,
            health_addresses=state.health_addresses,
            database_urls=state.database_urls,
            data_directory=state.data_directory,
        )

    def targets(self) -> list[Target]:
        """Return the platforms as `status` and `verify` see them."""
        return [self.target(level.code) for level in self.levels]

    def dead(self) -> list[Level]:
        """Return the levels whose process has ended."""
        return [level for level in self.levels if not self._platforms[level.code].is_running]

    def log_tail(self, code: str) -> str:
        """Return the end of a platform's log."""
        return self._platforms[code].log_tail()

    def stop(self, hurrying: threading.Event) -> list[str]:
        """Stop all side by side, by force once `hurrying` is set; return what went wrong."""
        problems: list[str] = []

        def stop(platform: PlatformProcess) -> None:
            try:
                platform.stop()
            except PlatformProcessError as error:
                problems.append(str(error))

        threads = [
            threading.Thread(target=stop, args=(platform,), name=f"stop {code}", daemon=True)
            for code, platform in self._platforms.items()
        ]
        for thread in threads:
            thread.start()
        is_forced = False
        while any(thread.is_alive() for thread in threads):
            if hurrying.wait(_STOP_POLL_SECONDS) and not is_forced:
                is_forced = True
                for platform in self._platforms.values():
                    platform.kill_everything()
            for thread in threads:
                thread.join(_STOP_POLL_SECONDS / len(threads))
        return problems


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        ports = []
        for _ in range(3):
            try:
                port, reservation = reserve_any(LOOPBACK)
            except OSError as error:
                raise PortsTakenError(str(error)) from error
            # All three are held until all are found.
            stack.enter_context(reservation)
            ports.append(port)
        return ports


def _check_ports(base_ports: Sequence[int]) -> None:
    taken = []
    for base_port in base_ports:
        try:
            reserve(base_port).close()
        except OSError:
            taken.append(f"{base_port} (held by another platform)")
            continue
        for name, place in addresses(SERVICES, LOOPBACK, base_port).items():
            taken += [
                f"{port} ({what})"
                for port, what in ((place.port, name), (place.health_port, f"{name} health"))
                if not is_free(LOOPBACK, port)
            ]
    if taken:
        raise PortsTakenError(f"taken on {LOOPBACK}: {', '.join(taken)} 端口已被占用")
