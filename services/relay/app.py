"""Puts the relay together: the only place where its parts meet."""

import time
from contextlib import ExitStack

import grpc

from services.common.access.certificates import platform_id
from services.common.access.mounting import AppAccess, ServiceAccess, registry_opener, service_tokens
from services.common.clock import Clock, SystemClock
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.rpc_client import connect
from services.common.rpc_server import RpcServer
from services.common.settings import SettingsError
from services.common.tls import Transport
from services.journal.signing import load_signer
from services.relay.config import RelayConfig
from services.relay.downstream import DownstreamLinks
from services.relay.handlers import RelayHandlers
from services.relay.identity import Identity
from services.relay.limits import LinkTimes
from services.relay.link import Link
from services.relay.local_services import CHANNEL_OPTIONS, Connect, LocalServices
from services.relay.metrics import add_relay_metrics
from services.relay.peers import Peers
from services.relay.refusal_report import RefusalReport
from services.relay.servicer import PeerServicer, RelayServicer
from services.relay.upstream import UpstreamAddress
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

NAME = "relay"
PEERS = "relay-peers"
"""Name of the server for platforms below."""

_SERVICE = relay_pb2.DESCRIPTOR.services_by_name["RelayService"].full_name


class RelayApp:
    """One relay, not started yet. `server.address` tells where it listens once it is, `peer_server.address` where
    platforms below are let in.
    """

    name = NAME

    def __init__(
        self, config: RelayConfig, clock: Clock, times: LinkTimes | None = None, access: AppAccess | None = None
    ) -> None:
        platform, settings = config.platform, config.service
        identity = Identity.of(platform.platform, load_signer(platform))
        transport = _transport(config)
        self._access = access or _access(config, clock)
        self._refusals = _refusals(config, clock)
        self._services = LocalServices(settings.local_addresses(), _connect_to(config, transport))
        self._link = Link(
            _upstream(config, transport),
            identity,
            self._services,
            clock,
            times,
            bandwidth=settings.bandwidth_schedule(),
        )
        below = DownstreamLinks(clock)
        self.metrics = Metrics(NAME, platform.platform)
        self.metrics_server = MetricsServer(self.metrics, settings.metrics_listen)
        add_relay_metrics(self.metrics, self._link, below)
        control = self._access.control
        self.access = control
        peers = Peers(platform.platform, lambda: control.knowledge.divisions)
        self.handlers = RelayHandlers(identity, self._services, self._link, below, self._link.feed, peers, clock)
        self.server = RpcServer.for_service(
            NAME, platform, settings, control, self._refusals, transport=transport, metrics=self.metrics
        )
        servicer = RelayServicer(self.handlers)
        self.server.add(lambda server: relay_pb2_grpc.add_RelayServiceServicer_to_server(servicer, server), _SERVICE)
        self.peer_server: RpcServer | None = None
        if settings.peer_listen is not None:
            self.peer_server = RpcServer(
                PEERS,
                settings.peer_listen,
                control,
                access_journal=self._refusals,
                tls=transport.required(f"ZHICHAO_RELAY_PEER_LISTEN is {settings.peer_listen}, which takes TLS"),
                require_client_certificate=True,
                threads=settings.threads,
                streams_max=settings.streams_max,
                listen_setting="ZHICHAO_RELAY_PEER_LISTEN",
                metrics=self.metrics,
            )
            peer_servicer = PeerServicer(self.handlers)
            self.peer_server.add(
                lambda server: relay_pb2_grpc.add_RelayServiceServicer_to_server(peer_servicer, server), _SERVICE
            )
        self._started = ExitStack()

    def start(self) -> None:
        """Serve, and start the link upwards; own services and upstream may come later. Raises ListenError."""
        with ExitStack() as starting:
            starting.callback(self._services.close)
            self.metrics_server.start()
            starting.callback(self.metrics_server.stop)
            self._access.start()
            starting.callback(self._access.stop)
            if self._refusals is not None:
                self._refusals.start()
                starting.callback(self._refusals.stop)
            self._start_servers()
            self._link.start()
            self._started = starting.pop_all()

    def _start_servers(self) -> None:
        with ExitStack() as started:
            self.server.start()
            started.callback(self.server.stop, 0.0)
            if self.peer_server is not None:
                self.peer_server.start()
            # Both listen: nothing is to be undone.
            started.pop_all()

    def stop(self, grace_seconds: float) -> None:
        """End the link upwards, let pushes from below finish what is in flight, then close the channels."""
        with self._started:
            ends_at = time.monotonic() + grace_seconds
            # Half for each direction: an upstream that hangs must not cost the platforms below their answers.
            self._link.stop(grace_seconds / 2)
            for server in (self.peer_server, self.server):
                if server is not None:
                    server.stop(max(ends_at - time.monotonic(), 0.0))


def _transport(config: RelayConfig) -> Transport:
    """Read the certificates. Towards other platforms ours must name this one, or nobody would let us in."""
    platform, settings = config.platform, config.service
    has_neighbours = settings.upstream is not None or settings.peer_listen is not None
    name = platform_id(platform.trust_domain, platform.platform)
    return Transport.of(platform, required_uri=name if has_neighbours else "")


def _access(config: RelayConfig, clock: Clock) -> AppAccess:
    address = config.service.registry_address
    if address is None:
        raise SettingsError(
            "ZHICHAO_RELAY_REGISTRY_ADDRESS is not set: the relay learns there who may do what, and which platforms "
            "are below this one"
        )
    open_registry = registry_opener(config.platform, address, NAME)
    return ServiceAccess.build(config.platform, service_tokens(config.platform), open_registry, clock)


def _refusals(config: RelayConfig, clock: Clock) -> RefusalReport | None:
    """Return who tells the registry of refused attempts; None where there is none, as in tests."""
    address = config.service.registry_address
    if address is None:
        return None
    return RefusalReport(registry_opener(config.platform, address, NAME), clock)


def _connect_to(config: RelayConfig, transport: Transport) -> Connect:
    credentials = service_tokens(config.platform).metadata(NAME)

    def connect_to(stream: str, address: str) -> grpc.Channel:
        tls = transport.for_address(address, f"ZHICHAO_RELAY_{stream.upper()}_ADDRESS")
        return connect(address, tls=tls, credentials=credentials, options=CHANNEL_OPTIONS)

    return connect_to


def _upstream(config: RelayConfig, transport: Transport) -> UpstreamAddress | None:
    address = config.service.upstream
    if address is None:
        return None
    tls = transport.required(f"ZHICHAO_RELAY_UPSTREAM is {address}, which takes mutual TLS")
    return UpstreamAddress(address, tls, config.service.upstream_platform or "")


def build(config: RelayConfig, clock: Clock | None = None, access: AppAccess | None = None) -> RelayApp:
    """Build a relay from its settings; nothing is started and nobody is called. `access` is that of the settings unless
    another one is given, as tests do.

    Raises SettingsError for settings that cannot work, such as a key file that is none.
    """
    return RelayApp(config, clock or SystemClock(), access=access)
