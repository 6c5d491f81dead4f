"""Finds the platforms that a command is about: by data directory, by address, or all that run here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cli import platform_state
from cli.access import CallerOptions, caller_access, open_channel
from cli.caller_tls import CallerTls, without_certificate_hint
from cli.platform_layout import SERVICES
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

# Where `zhichao up` and `zhichao run --keep` put platforms unless told otherwise.
DEFAULT_PATTERNS = ("var/*/platform.json", "var/run/*/platform.json")

STATE_FILE = "platform.json"

# Services in the same machine answer in milliseconds, across a province in tens of them.
LOOK_SECONDS_MAX = 3.0


class TargetError(Exception):
    """What was named cannot be a platform."""


@dataclass(frozen=True)
class Target:
    """One platform: where its services are, as far as that is known."""

    # Six digits; what the user named while the code is not known.
    platform: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    health_addresses: Mapping[str, str] = field(default_factory=dict)
    database_urls: Mapping[str, str] = field(default_factory=dict)
    data_directory: str = ""
    # Whose token is shown, none for one of the people of the machine that the platform runs on; and by which
    # certificates it is reached, none for plain text on loopback.
    options: CallerOptions = field(default_factory=CallerOptions)
    # Why it cannot be looked at; empty when it can.
    problem: str = ""

    def connect(self, service: str, *people: str) -> grpc.Channel:
        """Open a channel to a service as the first of the machine's people that there is, or as whom was named.

        Raises click.ClickException for a file that cannot be used.
        """
        address = self.addresses[service]
        # One that was named by address may run on this machine all the same.
        directory = self.data_directory or local_directory(address)
        return open_channel(address, caller_access(self.options, directory, people))


def local_directory(*addresses: str | None) -> str:
    """Return the data directory of the platform on this machine that has one of the addresses; empty for none."""
    for pattern in DEFAULT_PATTERNS:
        for path in sorted(Path().glob(pattern)):
            try:
                state = platform_state.find_running(path.parent)
            except (OSError, ValueError):
                continue
            if state is not None and set(addresses) & set(state.addresses.values()):
                return str(path.parent)
    return ""


def find(named: Sequence[str], options: CallerOptions | None = None) -> list[Target]:
    """Return the platforms named, or all on this machine when none is. Raises TargetError.

    `options` are for platforms named by address, and take the place of what lies in data directories.
    """
    options = options or CallerOptions()
    return [replace(one, options=_over(options, one)) for one in _find(named, options)]


def _over(options: CallerOptions, target: Target) -> CallerOptions:
    found = target.options
    # A platform of this machine that speaks plain text does so whatever the environment names for others.
    is_plaintext = bool(target.data_directory) and found.tls == CallerTls()
    tls = found.tls if is_plaintext else options.tls.over(found.tls)
    return CallerOptions(options.token_file or found.token_file, tls)


def tls_of(state: platform_state.PlatformState) -> CallerTls:
    """Return how services of this machine are reached: by the platform's own certificate, for whoever may read its key.

    Services that ask for certificates take that of their platform.
    """
    if not state.ca_file:
        return CallerTls()
    key_file = Path(state.key_file) if state.key_file and os.access(state.key_file, os.R_OK) else None
    certificate_file = Path(state.certificate_file) if key_file is not None else None
    return CallerTls(Path(state.ca_file), certificate_file, key_file)


def _find(named: Sequence[str], options: CallerOptions) -> list[Target]:
    if not named:
        files = [path for pattern in DEFAULT_PATTERNS for path in sorted(Path().glob(pattern))]
        if not files:
            raise TargetError(
                f"no platform was started here ({' or '.join(DEFAULT_PATTERNS)}): name a data directory or an address"
                " 此处没有启动过平台, 请指定数据目录或地址"
            )
        return [from_directory(path.parent) for path in files]
    targets: list[Target] = []
    addresses: list[str] = []
    for name in named:
        if Path(name).is_dir():
            targets += from_directories(Path(name))
        elif ":" in name:
            addresses.append(name)
        else:
            raise TargetError(
                f"{name}: neither a data directory nor an address like 127.0.0.1:7706 既不是数据目录, 也不是地址"
            )
    return targets + from_addresses(addresses, options)


def from_directories(directory: Path) -> list[Target]:
    """Return the platform of a data directory, or those of the directories in it. Raises TargetError."""
    if (directory / STATE_FILE).exists():
        return [from_directory(directory)]
    below = sorted(directory.glob(f"*/{STATE_FILE}"))
    if not below:
        raise TargetError(f"{directory}: holds no platform ({STATE_FILE}) 该目录中没有平台")
    return [from_directory(path.parent) for path in below]


def from_directory(directory: Path) -> Target:
    """Return the platform of a data directory, with a problem if it does not run. Raises TargetError."""
    try:
        state = platform_state.read(directory)
        running = platform_state.find_running(directory)
    except (OSError, ValueError) as error:
        raise TargetError(f"{directory / STATE_FILE}: {error} 无法读取平台状态文件") from error
    if state is None:
        raise TargetError(f"{directory}: holds no platform ({STATE_FILE}) 该目录中没有平台")
    if running is None:
        return Target(state.platform, data_directory=str(directory), problem="not running 未运行")
    return Target(
        running.platform,
        addresses=running.addresses,
        health_addresses=running.health_addresses,
        database_urls=running.database_urls,
        data_directory=str(directory),
        options=CallerOptions(tls=tls_of(running)),
    )


def from_addresses(addresses: Sequence[str], options: CallerOptions) -> list[Target]:
    """Ask each address which service of which platform it is, and put those of one platform together."""
    found: dict[str, dict[str, str]] = {}
    problems: list[Target] = []
    for address in addresses:
        try:
            platform, service = identify(address, options)
        except TargetError as error:
            problems.append(Target(address, problem=str(error)))
            continue
        found.setdefault(platform, {})[service] = address
    return [Target(platform, addresses=_ordered(services)) for platform, services in found.items()] + problems


def identify(address: str, options: CallerOptions) -> tuple[str, str]:
    """Return platform code and service name behind an address. Raises TargetError."""
    channel = open_channel(address, caller_access(options, local_directory(address), ("operator",)))
    try:
        grpc.channel_ready_future(channel).result(timeout=LOOK_SECONDS_MAX)
        served = ProtoReflectionDescriptorDatabase(channel).get_services()
        names = [name.split(".")[1] for name in served if name.startswith("zhichao.")]
        service = next((name for name in names if name in SERVICES), None)
        if service is None:
            raise TargetError("is no service of a platform 不是平台服务")
        return _platform_code(channel, service), service
    except grpc.FutureTimeoutError:
        raise TargetError("unreachable 无法连接" + without_certificate_hint(options.tls)) from None
    except grpc.RpcError as rpc_error:
        refused = service_error(rpc_error)
        hint = without_certificate_hint(options.tls) if refused.reason is Reason.SERVICE_UNAVAILABLE else ""
        raise TargetError(refused.message + hint) from rpc_error
    finally:
        channel.close()


def _platform_code(channel: grpc.Channel, service: str) -> str:
    if service == "relay":
        relay = relay_pb2_grpc.RelayServiceStub(channel)
        return relay.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=LOOK_SECONDS_MAX).platform
    journal = journal_pb2_grpc.JournalServiceStub(channel)
    answer = journal.ListPositions(journal_pb2.ListPositionsRequest(), timeout=LOOK_SECONDS_MAX)
    return next((position.origin for position in answer.positions if position.is_own), "?")


def _ordered(services: Mapping[str, str]) -> dict[str, str]:
    return {name: services[name] for name in SERVICES if name in services}
