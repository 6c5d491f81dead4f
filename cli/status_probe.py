"""Collects the figures of running platforms from their services, again and again. Shows nothing."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2

from cli.relay_link import link_figures
from cli.status_figures import LinkFigures, LogFigures, PlatformFigures, ServiceFigures
from cli.status_targets import LOOK_SECONDS_MAX, Target
from cli.store_figures import StoreFigures, store_figures
from services.common.china_time import CHINA_TIME
from services.common.rpc_client import connect, service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc
from zhichao.video.v1 import service_pb2 as video_pb2
from zhichao.video.v1 import service_pb2_grpc as video_pb2_grpc
from zhichao.weighing.v1 import service_pb2 as weighing_pb2
from zhichao.weighing.v1 import service_pb2_grpc as weighing_pb2_grpc

# Totals are one per source unit and day: 20 pages are 20,000 unit days, more than any look should read.
TOTAL_PAGES_MAX = 20
TOTAL_PAGE_SIZE = 1_000

# Rates are taken over the looks of the last seconds: short enough to follow, long enough not to jump.
RATE_SECONDS = 5.0

# Called by name: the published type stubs of the generated client have no methods.
_HEALTH_METHOD = "/grpc.health.v1.Health/Check"


@dataclass
class _Look:
    """What one look collects, service by service."""

    services: list[ServiceFigures] = field(default_factory=list)
    logs: list[LogFigures] = field(default_factory=list)
    link: LinkFigures | None = None
    suspected: tuple[int, bool] | None = None
    store: StoreFigures | None = None


class PlatformProbe:
    """Looks at one platform again and again; remembers the last looks for the rates. For one thread at a time."""

    def __init__(self, target: Target, *, suspected_since: date | None = None) -> None:
        self.target = target
        self._since = suspected_since or datetime.now(CHINA_TIME).date()
        self._channels = {name: target.connect(name, "operator") for name in target.addresses}
        self._health_channels = {name: connect(address) for name, address in target.health_addresses.items()}
        self._history: dict[tuple[str, str], deque[tuple[float, int]]] = {}
        self._name = ""
        self._is_name_asked = False

    def look(self) -> PlatformFigures:
        """Ask every service; never raises for one that does not answer."""
        now = datetime.now(UTC)
        target = self.target
        if target.problem:
            return PlatformFigures(target.platform, now, data_directory=target.data_directory, problem=target.problem)
        look = _Look()
        for name, channel in self._channels.items():
            self._ask(name, channel, look)
        count, is_partial = look.suspected if look.suspected is not None else (None, False)
        return PlatformFigures(
            platform=target.platform,
            time=now,
            name=self._name,
            data_directory=target.data_directory,
            services=look.services,
            logs=sorted(look.logs, key=lambda log: (log.stream, log.origin)),
            link=look.link,
            suspected_count=count,
            is_suspected_partial=is_partial,
            suspected_since=self._since,
            store=look.store,
        )

    def close(self) -> None:
        """Close the connections."""
        for channel in [*self._channels.values(), *self._health_channels.values()]:
            channel.close()

    def _ask(self, name: str, channel: grpc.Channel, look: _Look) -> None:
        address = self.target.addresses[name]
        try:
            health = _health(self._health_channels.get(name, channel))
            if name == "relay":
                look.link = _link(channel)
            else:
                look.logs += self._logs(channel)
            if name == "weighing":
                look.suspected = self._suspected(channel)
            if name == "video":
                look.store = _store(channel)
            if name == "registry" and not self._is_name_asked:
                self._name = _division_name(channel, self.target.platform)
                self._is_name_asked = bool(self._name)
        except grpc.RpcError as rpc_error:
            error = service_error(rpc_error)
            is_away = error.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
            health = "UNREACHABLE" if is_away else "NOT_SERVING"
            look.services.append(ServiceFigures(name, address, health, error.message))
            return
        look.services.append(ServiceFigures(name, address, health))

    def _logs(self, channel: grpc.Channel) -> list[LogFigures]:
        journal = journal_pb2_grpc.JournalServiceStub(channel)
        answer = journal.ListPositions(journal_pb2.ListPositionsRequest(), timeout=LOOK_SECONDS_MAX)
        moment = time.monotonic()
        return [
            LogFigures(
                stream=one.stream,
                origin=one.origin,
                size=one.size,
                is_own=one.is_own,
                parked_count=one.parked_count,
                root=one.root.hex(),
                last_write_time=_time(one, "last_write_time"),
                records_per_second=self._rate((one.stream, one.origin), moment, one.size),
            )
            for one in answer.positions
        ]

    def _rate(self, log: tuple[str, str], moment: float, size: int) -> float | None:
        history = self._history.setdefault(log, deque())
        history.append((moment, size))
        while len(history) > 2 and moment - history[1][0] >= RATE_SECONDS:
            history.popleft()
        first_moment, first_size = history[0]
        return (size - first_size) / (moment - first_moment) if moment > first_moment else None

    def _suspected(self, channel: grpc.Channel) -> tuple[int, bool]:
        weighing = weighing_pb2_grpc.WeighingServiceStub(channel)
        count, token = 0, ""
        for _ in range(TOTAL_PAGES_MAX):
            request = weighing_pb2.ListDayTotalsRequest(
                first_day=self._since.isoformat(), page_size=TOTAL_PAGE_SIZE, page_token=token
            )
            answer = weighing.ListDayTotals(request, timeout=LOOK_SECONDS_MAX)
            count += sum(total.suspected_count for total in answer.day_totals)
            token = answer.next_page_token
            if not token:
                return count, False
        return count, True


class PlatformProbes:
    """Several platforms, looked at side by side; a context manager that closes the connections."""

    def __init__(self, targets: Sequence[Target], *, suspected_since: date | None = None) -> None:
        self._probes = [PlatformProbe(target, suspected_since=suspected_since) for target in targets]
        self._executor = ThreadPoolExecutor(max(len(self._probes), 1), thread_name_prefix="look")

    def look(self) -> list[PlatformFigures]:
        """Look at all, in the order given."""
        return list(self._executor.map(PlatformProbe.look, self._probes))

    def close(self) -> None:
        """Close the connections."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        for probe in self._probes:
            probe.close()

    def __enter__(self) -> Self:
        """Return the probes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()


def _health(channel: grpc.Channel) -> str:
    check: Callable[..., Any] = channel.unary_unary(
        _HEALTH_METHOD,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    status = check(health_pb2.HealthCheckRequest(), timeout=LOOK_SECONDS_MAX).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


def _link(channel: grpc.Channel) -> LinkFigures:
    relay = relay_pb2_grpc.RelayServiceStub(channel)
    return link_figures(relay.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=LOOK_SECONDS_MAX))


def _store(channel: grpc.Channel) -> StoreFigures:
    video = video_pb2_grpc.VideoServiceStub(channel)
    return store_figures(video.GetStoreStatus(video_pb2.GetStoreStatusRequest(), timeout=LOOK_SECONDS_MAX))


def _division_name(channel: grpc.Channel, code: str) -> str:
    """Return the name that the registry has for the platform's division; empty when it has none yet."""
    registry = registry_pb2_grpc.RegistryServiceStub(channel)
    try:
        request = registry_pb2.GetDivisionRequest(division_code=code)
        return registry.GetDivision(request, timeout=LOOK_SECONDS_MAX).division.name
    except grpc.RpcError as rpc_error:
        if service_error(rpc_error).status == "NOT_FOUND":
            return ""
        raise


def _time(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None
