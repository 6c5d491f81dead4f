"""Checks of the way up: the upstream is reached, shows the right certificate and takes ours, and the link advances."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import grpc

from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.services import Figures, read_figures
from cli.doctor.settings import Check
from cli.doctor.subject import Subject
from cli.status_targets import TargetError, from_directory
from services.common.access.certificates import SPIFFE_SCHEME, platform_id
from services.common.settings import PlatformSettings, SettingsError, load
from services.common.tls import is_local
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

CONNECT_SECONDS_MAX: Final = 3.0
"""A province is reached within some hundred milliseconds, also through a mobile network."""

SKEW_SECONDS_WARN: Final = 5.0
"""The handshake that measures it may take as long on a bad line."""

LAG_SECONDS_WARN: Final = 900.0
"""What waits longer than a quarter of an hour should be looked at (docs/operate/metrics.md)."""

_UNKNOWN: Final = (
    "not known: set ZHICHAO_RELAY_METRICS_LISTEN, or see zhichao relay status",
    "设置转发服务指标端口后可见",
)
_GOOD: Final = frozenset({"CURRENT", "CATCHING_UP"})
_BAD: Final = frozenset({"STALLED", "REFUSED", "INCOMPATIBLE"})


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield these checks with their names."""
    if "relay" in subject.services:
        yield "upstream", lambda: check_upstream(subject)
        yield "link", lambda: check_link(subject)
        yield "clock upstream", lambda: check_skew(subject)


def check_upstream(subject: Subject) -> Finding:
    """Open a connection to the platform above as the relay does, and end it."""
    address = subject.environment.get("ZHICHAO_RELAY_UPSTREAM", "")
    if not address:
        return skip("none: this platform is the top, or stands alone", "无上级平台")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        plain = socket.create_connection((host, int(port)), CONNECT_SECONDS_MAX)
    except (OSError, ValueError) as error:
        return fail(
            Text(f"{address} cannot be reached: {error}", "上级平台无法连接"),
            Text(
                "check the address, the network between, and that the relay above runs", "检查地址、网络与上级转发服务"
            ),
        )
    with plain:
        try:
            context = _context(subject)
        except (SettingsError, OSError) as error:
            return fail(
                Text(f"reached, but our certificate cannot be used: {error}", "本平台证书不可用"),
                Text("see the certificate", "见证书一项"),
            )
        if context is None:
            return ok(f"{address} is reached in plain text", "上级可达 (明文)")
        try:
            with context.wrap_socket(plain, server_hostname=host) as encrypted:
                names = _uri_names(encrypted.getpeercert())
                # A server that does not want our certificate says so only after its half of the handshake (TLS 1.3);
                # one that takes it begins to speak.
                encrypted.settimeout(CONNECT_SECONDS_MAX)
                if not encrypted.recv(1):
                    raise ssl.SSLError("the upstream closed the connection")
                version = encrypted.version()
        except (OSError, ssl.SSLError) as error:
            return fail(
                Text(f"{address}: {error}", "TLS 握手失败"),
                Text("both must trust the authority of the other; see the certificate", "双方须信任对方的根证书"),
            )
    return _judge_names(subject, address, names, version or "TLS")


def _judge_names(subject: Subject, address: str, names: list[str], version: str) -> Finding:
    wanted = subject.environment.get("ZHICHAO_RELAY_UPSTREAM_PLATFORM", "")
    domain = subject.environment.get("ZHICHAO_TRUST_DOMAIN", "zhichao")
    if wanted and platform_id(domain, wanted) not in names:
        return fail(
            Text(f"{address} is {', '.join(names) or 'nobody'}, not platform {wanted}", "对端不是所配置的上级平台"),
            Text("correct ZHICHAO_RELAY_UPSTREAM or ZHICHAO_RELAY_UPSTREAM_PLATFORM", "更正上级地址或平台代码"),
        )
    return ok(f"{address} is {', '.join(names) or 'without a name'}, {version}", "上级可达, 证书互认")


@dataclass(frozen=True)
class LinkSeen:
    """What the relay says of its link."""

    state: str
    lag_seconds: float
    # Direction, stream and reason of what does not advance.
    refused: tuple[str, ...]
    skew_seconds: float | None


def check_link(subject: Subject) -> Finding:
    """Look at what the relay says of its link."""
    seen = _look(subject)
    if seen is None:
        return skip(*_UNKNOWN)
    told = ", ".join([seen.state, *seen.refused, f"oldest entry waits {seen.lag_seconds:.0f} s"])
    look = Text("zhichao relay status tells why", "用 zhichao relay status 查看原因")
    if seen.state == "NO_UPSTREAM":
        return skip("none: this platform is the top, or stands alone", "无上级平台")
    if seen.state in _BAD or seen.refused:
        return fail(Text(told, "上行链路停滞或被拒绝"), look)
    if seen.state not in _GOOD:
        return fail(Text(told, "上行链路未连接"), look)
    if seen.lag_seconds > LAG_SECONDS_WARN:
        return warn(Text(told, f"上报延迟 {seen.lag_seconds:.0f} 秒"), look)
    return ok(told, "上行链路正常")


def check_skew(subject: Subject) -> Finding:
    """Compare the clock with the upstream's, as it was at the last handshake."""
    seen = _look(subject)
    if seen is None:
        return skip(*_UNKNOWN)
    if seen.skew_seconds is None:
        return skip("not known before a handshake", "握手后可知")
    text = Text(f"{seen.skew_seconds:+.3f} s", f"与上级相差 {seen.skew_seconds:+.1f} 秒")
    if abs(seen.skew_seconds) > SKEW_SECONDS_WARN:
        return warn(text, Text("run NTP on both machines", "两台机器均应启用 NTP"))
    return ok(text.english, text.chinese)


def _look(subject: Subject) -> LinkSeen | None:
    """Ask the relay by its figures, or as the operator of this machine; None when neither is possible."""
    address = subject.metrics_addresses.get("relay", "")
    figures = read_figures(address) if address else None
    if figures is not None:
        return _of_figures(figures)
    return _of_status(subject.data_directory) if subject.data_directory is not None and subject.is_running else None


def _of_figures(figures: Figures) -> LinkSeen:
    state, lag, refused = "", 0.0, []
    for (name, labels), value in figures.items():
        if name == "zhichao_relay_link_state" and value:
            state = dict(labels)["state"]
        elif name == "zhichao_relay_lag_seconds":
            lag = max(lag, value)
        elif name == "zhichao_relay_refused_logs" and value:
            told = dict(labels)
            refused.append(f"{told['direction']} {told['stream']} {told['reason']}")
    return LinkSeen(state, lag, tuple(refused), figures.get(("zhichao_relay_clock_skew_seconds", ())))


def _of_status(data_directory: Path) -> LinkSeen | None:
    try:
        with from_directory(data_directory).connect("relay", "operator") as channel:
            stub = relay_pb2_grpc.RelayServiceStub(channel)
            status = stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=CONNECT_SECONDS_MAX)
    except (TargetError, KeyError, click.ClickException, grpc.RpcError):
        # Whether it serves at all is for another check to tell.
        return None
    return LinkSeen(
        relay_pb2.LinkState.Name(status.state).removeprefix("LINK_STATE_"),
        max((one.lag_milliseconds / 1000 for one in status.progress), default=0.0),
        (
            *(f"upward {one.stream} {one.refusal_reason}" for one in status.progress if one.refusal_reason),
            *(f"downward {one.stream} {one.refusal_reason}" for one in status.addressed_progress if one.refusal_reason),
        ),
        status.clock_skew_milliseconds / 1000 if status.HasField("clock_skew_milliseconds") else None,
    )


def _context(subject: Subject) -> ssl.SSLContext | None:
    """Return how the relay speaks to its upstream; None for plain text."""
    platform = load(PlatformSettings, subject.environment)
    address = subject.environment["ZHICHAO_RELAY_UPSTREAM"]
    if platform.tls_certificate_file is None or platform.tls_ca_file is None:
        if platform.plaintext_loopback and is_local(address):
            return None
        raise SettingsError(f"{address} takes TLS, and no certificate is configured")
    context = ssl.create_default_context(cafile=str(platform.tls_ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(platform.tls_certificate_file, platform.tls_key_file)
    # Without it a gRPC server does not speak.
    context.set_alpn_protocols(["h2"])
    return context


def _uri_names(certificate: Any) -> list[str]:
    names = (certificate or {}).get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI" and value.startswith(SPIFFE_SCHEME)]
