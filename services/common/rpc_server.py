"""One gRPC server of one service, with health checks, reflection, limits and a stop that lets running calls finish."""

import errno
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from services.common.access.control import AccessControl
from services.common.access.methods import MethodAccess
from services.common.metrics import Metrics
from services.common.request import RequestContext, request_context
from services.common.rpc_gate import AccessJournal, Gate
from services.common.rpc_health import REQUEST_BYTES_MAX as HEALTH_BYTES_MAX
from services.common.rpc_health import SERVICE as HEALTH_SERVICE
from services.common.rpc_health import Health
from services.common.rpc_interceptor import RequestInterceptor
from services.common.rpc_limits import MESSAGE_BYTES_MAX, REFUSALS_MAX, SERVER_OPTIONS, UNARY_CALLS_MAX
from services.common.rpc_metrics import add_server_metrics
from services.common.rpc_threads import CallExecutor, Turns
from services.common.rpc_watch import StandingWatch
from services.common.settings import PlatformSettings, SettingsError
from services.common.tls import PLAINTEXT_VARIABLE, Tls, Transport, is_local

__all__ = ["MESSAGE_BYTES_MAX", "AddressInUse", "ListenError", "RequestContext", "RpcServer", "request_context"]

log = structlog.get_logger()

# Refusals are built in microseconds; two threads keep a slow peer from holding up the others.
REFUSAL_THREADS = 2
# After the last call has been answered its bytes may still be on their way out; health watchers are cut off after it.
FLUSH_SECONDS = 0.5

_NO_OPTIONS: Mapping[str, int] = MappingProxyType({})

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ListenError(Exception):
    """The server cannot listen where it was told to; the text names the address and the setting to change."""


class AddressInUse(ListenError):  # noqa: N818 - reads as the fact it is
    """Another process listens there already."""


class ServerSettings(Protocol):
    """What a service's settings say about its server."""

    @property
    def listen(self) -> str:
        """Address of the server."""
        ...

    @property
    def health_listen(self) -> str | None:
        """Address of the health-only port."""
        ...

    @property
    def require_client_certificate(self) -> bool:
        """Whether callers need a certificate."""
        ...

    @property
    def threads(self) -> int:
        """Unary calls worked on at once."""
        ...

    @property
    def streams_max(self) -> int:
        """Open streams."""
        ...


class RpcServer:
    """A gRPC server: `add` services, `start`, `stop`. One server of one service; it is not started twice.

    `listen` is `host:port` (port 0 takes any free one) or `unix:/path`. It speaks TLS with `tls`, and asks callers for
    certificates with `require_client_certificate`; without `tls` it speaks plain text, on addresses only that other
    machines do not reach. `health_listen` is one more plain-text port that serves health only. `threads` bounds the
    unary calls worked on at once, `streams_max` the open streams; streams have threads of their own, so a unary call
    never waits for a stream to end. `listen_setting` is the setting that errors name. `metrics` are the service's.
    `options` are gRPC channel arguments that are added or replace ours.
    """

    def __init__(
        self,
        name: str,
        listen: str,
        access: AccessControl,
        *,
        access_journal: AccessJournal | None = None,
        tls: Tls | None = None,
        require_client_certificate: bool = False,
        health_listen: str | None = None,
        threads: int = 16,
        streams_max: int = 512,
        unary_calls_max: int = UNARY_CALLS_MAX,
        listen_setting: str = "",
        metrics: Metrics | None = None,
        options: Mapping[str, int] = _NO_OPTIONS,
    ) -> None:
        self.name = name
        self._setting = f"ZHICHAO_{name.upper()}_"
        self._listen_setting = listen_setting or f"{self._setting}LISTEN"
        self._listen = listen
        self._health_listen = health_listen
        if tls is None and (require_client_certificate or not is_local(listen)):
            raise ListenError(
                f"{self._listen_setting} is {listen}, which takes TLS: plain text is for 127.0.0.1 and unix sockets"
            )
        # Counted all the same where nobody shows them.
        metrics = metrics or Metrics(name, access.platform)
        self._credentials = (
            tls.server_credentials(require_client_certificate=require_client_certificate) if tls is not None else None
        )
        # Of all these threads `threads` work at once; the others wait for the messages of their calls, or their turn.
        self._unary = CallExecutor(unary_calls_max, f"{name}-call")
        self._streams = CallExecutor(streams_max, f"{name}-stream")
        self._refusals = CallExecutor(REFUSAL_THREADS, f"{name}-refusal")
        self._gate = Gate(access, access_journal, asks_certificates=require_client_certificate)
        self._interceptor = RequestInterceptor(
            self._gate,
            self._unary,
            self._streams,
            self._refusals,
            Turns(threads),
            unary_max=unary_calls_max,
            streams_max=streams_max,
            metrics=metrics.requests,
        )
        access.knowledge.on_change(self._interceptor.end_refused)
        self.health = Health()
        self.health.set("", _NOT_SERVING)
        self._watch = StandingWatch(name, self._interceptor, [self.health.cut_silent])
        running = {"unary": lambda: self._unary.call_count, "stream": lambda: self._streams.call_count}
        add_server_metrics(metrics, name, running, access.knowledge, tls)
        self._server = grpc.server(
            self._unary,
            interceptors=[self._interceptor],
            options=[*(SERVER_OPTIONS | dict(options)).items()],
            maximum_concurrent_rpcs=unary_calls_max + streams_max + REFUSALS_MAX,
        )
        self._health_server: grpc.Server | None = None
        self._services: list[str] = []
        self._described: list[str] = []
        self._methods: dict[str, MethodAccess] = {}
        self.address = listen
        self.health_address = health_listen

    @classmethod
    def for_service(
        cls,
        name: str,
        platform: PlatformSettings,
        settings: ServerSettings,
        access: AccessControl,
        access_journal: AccessJournal | None = None,
        transport: Transport | None = None,
        metrics: Metrics | None = None,
        options: Mapping[str, int] = _NO_OPTIONS,
    ) -> Self:
        """Make the server of a service as its settings say; `transport` is theirs, for who has made it already.

        `options` are gRPC channel arguments that are added or replace ours.
        Raises SettingsError if its address takes TLS and there is none, or if it is to ask for certificates in plain
        text; ListenError like the constructor.
        """
        setting = f"ZHICHAO_{name.upper()}_"
        tls = (transport or Transport.of(platform)).for_address(settings.listen, f"{setting}LISTEN")
        if tls is None and settings.require_client_certificate:
            raise SettingsError(
                f"{setting}REQUIRE_CLIENT_CERTIFICATE needs TLS, and {settings.listen} goes without: unset "
                f"{PLAINTEXT_VARIABLE} or listen elsewhere"
            )
        return cls(
            name,
            settings.listen,
            access,
            tls=tls,
            require_client_certificate=settings.require_client_certificate,
            access_journal=access_journal,
            health_listen=settings.health_listen,
            threads=settings.threads,
            streams_max=settings.streams_max,
            metrics=metrics,
            options=options,
        )

    def add(
        self,
        register: Callable[[grpc.Server], None],
        service_full_name: str,
        methods: Mapping[str, MethodAccess] | None = None,
    ) -> None:
        """Add a service before the start: `register` gets the server, the name is for health and reflection.

        What its methods demand stands in its proto; `methods`, by path, says it for a service that has none.
        """
        register(self._server)
        if methods is None:
            self._described.append(service_full_name)
        else:
            self._methods |= methods
        self._services.append(service_full_name)
        self.health.set(service_full_name, _NOT_SERVING)

    def start(self) -> None:
        """Listen and serve. Raises AddressInUse, or ListenError if the address cannot be listened on at all."""
        self._gate.serve(self._described, self._methods)
        self.health.register(self._server, f"{self.name}-health")
        reflection.enable_server_reflection((*self._services, HEALTH_SERVICE, reflection.SERVICE_NAME), self._server)
        self.address = _bind(self._server, self._listen, self._listen_setting, self._credentials)
        if self._health_listen is not None:
            self._health_server = grpc.server(
                # For nothing: health has threads of its own, and nothing else is served.
                CallExecutor(1, f"{self.name}-nothing"),
                options=list((SERVER_OPTIONS | {"grpc.max_receive_message_length": HEALTH_BYTES_MAX}).items()),
                maximum_concurrent_rpcs=REFUSALS_MAX,
            )
            self.health.register(self._health_server, f"{self.name}-probe")
            self.health_address = _bind(self._health_server, self._health_listen, f"{self._setting}HEALTH_LISTEN")
            self._health_server.start()
        self._server.start()
        self._watch.start()
        for service in ("", *self._services):
            self.health.set(service, _SERVING)
        log.info("server_started", server=self.name, address=self.address, health_address=self.health_address)

    def set_serving(self, service_full_name: str, is_serving: bool) -> None:
        """Report one service (`""`: the whole server) as able or unable to work; without effect while stopping."""
        self.health.set(service_full_name, _SERVING if is_serving else _NOT_SERVING)

    def stop(self, grace_seconds: float) -> None:
        """Report NOT_SERVING, refuse new calls (SHUTTING_DOWN), let running ones finish for the grace, then cut them.

        Returns when all is over; open streams are told at once and need not wait for the grace.
        """
        ends_at = time.monotonic() + grace_seconds
        self.health.begin_stop()
        self._interceptor.begin_stop()
        is_drained = True
        for executor in (self._unary, self._streams, self._refusals):
            is_drained &= executor.wait_until_idle(max(ends_at - time.monotonic(), 0.0))
        self._watch.stop()
        calls_cut = self._unary.call_count + self._streams.call_count
        self._server.stop(FLUSH_SECONDS if is_drained else None).wait()
        if self._health_server is not None:
            self._health_server.stop(None).wait()
        for executor in (self._unary, self._streams, self._refusals):
            # Not waited for: a handler that does not notice the end of its call must not hold up the process.
            executor.shutdown(wait=False, cancel_futures=True)
        self.health.close()
        if self._listen.startswith("unix:"):
            _unix_path(self._listen).unlink(missing_ok=True)
        log.info("server_stopped", server=self.name, calls_cut=calls_cut)


def _bind(server: grpc.Server, listen: str, setting: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """Listen, and return the address with the real port."""
    if listen.startswith("unix:"):
        # gRPC removes the socket file of a server that still runs, and takes its place.
        if _is_answered(_unix_path(listen)):
            raise AddressInUse(f"{listen} is in use by another process: stop it or change {setting}")
        address = listen
    else:
        host, port = _host_and_port(listen)
        # gRPC would be content with one of the two addresses of this name and leave the other to somebody else.
        address = f"127.0.0.1:{port}" if host == "localhost" else listen
    try:
        bound = (
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        raise _listen_error(listen, setting) from error
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{bound}"


def _listen_error(listen: str, setting: str) -> ListenError:
    """Find out why gRPC, which does not say, could not listen: try it with a plain socket."""
    why = "cannot be listened on"
    if not listen.startswith("unix:"):
        host, port = _host_and_port(listen)
        try:
            family, kind, _, _, target = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
            with closing(socket.socket(family, kind)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return AddressInUse(f"{listen} is in use by another process: stop it or change {setting}")
            why += f" ({error.strerror or error})"
    return ListenError(f"{listen} {why}: change {setting}")


def _is_answered(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _host_and_port(listen: str) -> tuple[str, str]:
    host, _, port = listen.rpartition(":")
    return host, port


def _unix_path(listen: str) -> Path:
    return Path("/" + listen.removeprefix("unix:").lstrip("/")) if listen.startswith("unix:/") else Path(listen[5:])
