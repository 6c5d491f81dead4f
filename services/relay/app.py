"""Puts the relay together: the only place where its parts meet."""

import time
from contextlib import ExitStack

from services.common.clock import Clock, SystemClock
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.rpc_server import RpcServer
from services.journal.signing import load_signer
from services.relay.config import RelayConfig
from services.relay.downstream import DownstreamLinks
from services.relay.handlers import RelayHandlers
from services.relay.identity import Identity
from services.relay.limits import LinkTimes
from services.relay.link import Link
from services.relay.local_services import LocalServices
from services.relay.metrics import add_relay_metrics
from services.relay.servicer import RelayServicer
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

NAME = "relay"


class RelayApp:
    """One relay, not started yet. `server.address` tells where it listens once it is."""

    name = NAME

    def __init__(self, config: RelayConfig, clock: Clock, times: LinkTimes | None = None) -> None:
        platform, settings = config.platform, config.service
        identity = Identity.of(platform.platform, load_signer(platform))
        self._services = LocalServices(settings.local_addresses())
        self._link = Link(
            settings.upstream, identity, self._services, clock, times, bandwidth=settings.bandwidth_schedule()
        )
        below = DownstreamLinks(clock)
        self.metrics = Metrics(NAME, platform.platform)
        self.metrics_server = MetricsServer(self.metrics, settings.metrics_listen)
        add_relay_metrics(self.metrics, self._link, below)
        self.handlers = RelayHandlers(identity, self._services, self._link, below, self._link.feed, clock)
        self.server = RpcServer.for_service(NAME, platform, settings)
        servicer = RelayServicer(self.handlers)
        self.server.add(
            lambda server: relay_pb2_grpc.add_RelayServiceServicer_to_server(servicer, server),
            relay_pb2.DESCRIPTOR.services_by_name["RelayService"].full_name,
        )
        self._started = ExitStack()

    def start(self) -> None:
        """Serve, and start the link upwards; own services and upstream may come later. Raises ListenError."""
        with ExitStack() as starting:
            starting.callback(self._services.close)
            self.metrics_server.start()
            starting.callback(self.metrics_server.stop)
            self.server.start()
            self._link.start()
            self._started = starting.pop_all()

    def stop(self, grace_seconds: float) -> None:
        """End the link upwards, let pushes from below finish what is in flight, then close the channels."""
        with self._started:
            ends_at = time.monotonic() + grace_seconds
            # Half for each direction: an upstream that hangs must not cost the platforms below their answers.
            self._link.stop(grace_seconds / 2)
            self.server.stop(max(ends_at - time.monotonic(), 0.0))


def build(config: RelayConfig, clock: Clock | None = None) -> RelayApp:
    """Build a relay from its settings; nothing is started and nobody is called.

    Raises SettingsError for settings that cannot work, such as a key file that is none.
    """
    return RelayApp(config, clock or SystemClock())
