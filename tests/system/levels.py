"""Three levels as real processes, each with its own database server, and a misbehaving network between them.

    clients ──proxy── county ──proxy── city ──proxy── province
             tokens         mutual TLS      mutual TLS

Every proxy passes everything on until a test tells it otherwise. Ports are chosen before anything starts, so that
levels may start in any order and find each other again after every kill.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc

from cli.certificates import make_certificates
from cli.platform_layout import LOOPBACK, PEER_OFFSET, SERVICES, join, reserve_any
from cli.platform_process import PlatformProcess
from cli.simulate.registration import register_below
from cli.simulate.site import CITY, COUNTY, PROVINCE, Site, make_site
from tests.faults.proxy import FaultProxy
from tests.system.checker import STREAMS, Checker, Held, describe
from tests.system.history import History
from tests.system.journals import CALL_SECONDS, calling, read_positions, read_relay
from tests.system.reaching import OPERATOR, Gate, Place
from tests.system.registering import register_and_weigh
from tests.system.waiting import wait_until
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.relay.v1 import relay_pb2

# The relay looks again after at most 15 s, gives a dead connection up after as long, and refused logs wait for 30 s.
CURRENT_SECONDS_MAX: Final = 90.0


COMPLAINT_CHARACTERS_MAX: Final = 600


class Level:
    """One platform, and the proxies through which the others reach it: its port for relays of lower platforms, and its
    weighing service.
    """

    def __init__(
        self,
        platform: str,
        directory: Path,
        upstream: "Level | None",
        *,
        tls_directory: Path,
        is_split: bool,
        template: Path | None,
    ) -> None:
        self.platform = platform
        self.upstream = upstream
        self.directory = directory
        base_port, self._reservation = reserve_any(LOOPBACK)
        self.addresses = {name: join(LOOPBACK, base_port + layout.port_offset) for name, layout in SERVICES.items()}
        self.places = {name: Place(address, directory) for name, address in self.addresses.items()}
        self.relay_proxy = FaultProxy(join(LOOPBACK, base_port + PEER_OFFSET))
        self.weighing_proxy = FaultProxy(self.addresses["weighing"])
        if template is not None:
            directory.mkdir(parents=True)
            copy_directory(template, directory / "postgres")
        self.process = PlatformProcess(
            platform,
            directory,
            upstream=upstream.relay_proxy.address if upstream else "",
            base_port=base_port,
            is_split=is_split,
            tls_directory=tls_directory,
            log_format="json",
        )

    def launch(self) -> None:
        """Start without waiting."""
        self._reservation.close()
        self.process.launch()

    def close(self) -> None:
        """Kill what still runs and remove the files."""
        self._reservation.close()
        self.process.kill_everything()
        self.relay_proxy.close()
        self.weighing_proxy.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def held(self) -> Held:
        """Return this level as the checker knows it."""
        return Held(self.platform, self.places)

    def status(self) -> relay_pb2.GetRelayStatusResponse:
        """Return the state of its links."""
        return read_relay(self.places["relay"])

    def weighing_size(self, origin: str = COUNTY) -> int:
        """Return how many entries of a weighing log it holds."""
        position = read_positions(self.places["weighing"]).get(origin)
        return position.size if position else 0

    def wait_state(self, state: relay_pb2.LinkState.ValueType, seconds_max: float = CURRENT_SECONDS_MAX) -> None:
        """Wait until the link upwards is in a state."""
        wait_until(
            lambda: self.status().state == state,
            seconds_max,
            lambda: f"the link of {self.platform} is not in state {state}, it is {self.seen()}",
        )

    def seen(self) -> str:
        """Describe the state of its links, or why it does not answer."""
        try:
            return str(self.status())
        except grpc.RpcError as error:
            return str(error)


class Levels:
    """Levels from the county upwards; a context manager that starts and removes them.

    With two platforms the city is the top. `template` is a database directory with empty, migrated databases.
    """

    def __init__(
        self,
        directory: Path,
        *,
        platforms: Sequence[str] = (COUNTY, CITY, PROVINCE),
        split: Sequence[str] = (),
        template: Path | None = None,
        seed: int = 0,
        units: int = 3,
    ) -> None:
        self.site: Site = make_site(seed=seed, units=units)
        self.history = History()
        self._gate: Gate | None = None
        certificates = make_certificates(directory / "pki", platforms)
        levels: list[Level] = []
        for platform in reversed(platforms):
            upstream = levels[0] if levels else None
            level = Level(
                platform,
                directory / platform,
                upstream,
                tls_directory=certificates[platform],
                is_split=platform in split,
                template=template,
            )
            levels.insert(0, level)
        self.all = levels

    @property
    def county(self) -> Level:
        """The lowest level, where clients send."""
        return self.all[0]

    @property
    def city(self) -> Level:
        """The level above it."""
        return self.all[1]

    @property
    def province(self) -> Level:
        """The highest level."""
        return self.all[2]

    def start(self, levels: Sequence[Level] | None = None) -> Self:
        """Start levels side by side, all unless named, and wait until they serve."""
        levels = self.all if levels is None else levels
        for level in levels:
            level.launch()
        for level in levels:
            level.process.wait_until_serving()
            self._admit_below(level)
        return self

    def _admit_below(self, upper: Level) -> None:
        """Register the platform below with one that serves, which lets nobody in that it does not know."""
        for lower in self.all:
            if lower.upstream is upper:
                with calling(upper.places["registry"], OPERATOR) as channel:
                    register_below(registry_grpc.RegistryServiceStub(channel), lower.platform, upper.platform)

    def register(self) -> None:
        """Register the site with the county and wait until its weighing service takes records of every scale."""
        self._gate = register_and_weigh(self.site, self.history, self.county.places)

    @property
    def gate(self) -> Gate:
        """Where the registered site sends."""
        assert self._gate is not None, "the site is not registered yet"
        return self._gate

    @property
    def proxied_gate(self) -> Gate:
        """Where it sends by way of the proxy."""
        return replace(self.gate, address=self.county.weighing_proxy.address)

    def wait_current(self, seconds_max: float = CURRENT_SECONDS_MAX) -> None:
        """Wait until every level holds what the level below it holds, and the relays say so."""
        for lower, upper in zip(self.all, self.all[1:], strict=False):
            wait_until(
                lambda lower=lower, upper=upper: _is_held(lower, upper),  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
                seconds_max,
                lambda lower=lower: f"{lower.platform} is not current: {lower.seen()}",  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            )
            lower.wait_state(relay_pb2.LINK_STATE_CURRENT, seconds_max)

    def check(self, *, checks_rows: bool = True, has_other_senders: bool = False) -> Checker:
        """Wait until all is current and check everything against the history; AssertionError with what is wrong."""
        self.wait_current()
        checker = Checker(
            [level.held for level in self.all],
            self.history,
            checks_rows=checks_rows,
            has_other_senders=has_other_senders,
        )
        findings = checker.check() + [fault for level in self.all for fault in logged_faults(level)]
        assert not findings, f"{describe(findings)}\n{self.history.summary()}"
        print(self.history.summary())
        return checker

    def close(self) -> None:
        """Kill what still runs and remove all files."""
        with ThreadPoolExecutor(len(self.all)) as pool:
            closings = [pool.submit(level.close) for level in self.all]
        for closing in closings:
            closing.result()

    def complaints(self, lines_max: int = 40) -> str:
        """Return the last warnings and errors that each level logged, for a test that failed."""
        return "\n".join(
            f"--- {level.platform}\n" + "\n".join(list(_complaints(level.process.log_file))[-lines_max:])
            for level in self.all
        )

    def __enter__(self) -> Self:
        """Start all levels."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove all levels; what they complained about is shown with the failure."""
        if error is not None:
            print(self.complaints())
        self.close()


def _is_held(lower: Level, upper: Level) -> bool:
    for stream in STREAMS:
        above = read_positions(upper.places[stream])
        for origin, position in read_positions(lower.places[stream]).items():
            held = above.get(origin)
            if held is None or (held.size, held.root) != (position.size, position.root):
                return False
    return True


def _complaints(log_file: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), log_file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            is_entry = line.startswith("{")
            if '"level":"info"' not in line if is_entry else line.startswith(("Traceback", " ", "zhichao up:")):
                yield line.rstrip()[:COMPLAINT_CHARACTERS_MAX]


def logged_faults(level: Level) -> Iterator[str]:
    """Yield what a level logged that no kill and no network excuses: exceptions that nobody expected."""
    for line in _complaints(level.process.log_file):
        if (line.startswith("{") and ('"exception":' in line or '"reason":"INTERNAL"' in line)) or "Traceback" in line:
            yield f"{level.platform} logged {line}"


def copy_directory(source: Path, target: Path) -> None:
    """Copy a data directory with its owners and permissions, which Python's own copy leaves behind."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=CALL_SECONDS)
