"""What a platform consists of: its services, their ports, what each needs, and the files below its data directory."""

import ipaddress
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_BASE_PORT = 7700
LOOPBACK = "127.0.0.1"

# A base port is reserved by holding the port this far above it, which no service uses. Two platforms that start in
# the same moment find out by it, before either has a service listening.
RESERVATION_OFFSET = 10
HEALTH_OFFSET = 10

# Where the relays of lower platforms dial in, by mutual TLS. No service has it.
PEER_OFFSET = 7

# Where the platform's own S3 server answers, on loopback, when it has one (see `up_object_server`).
OBJECT_SERVER_OFFSET = 8

# A platform's ports lie in one block: the services up to +9, the reservation, and the health ports up to +19.
PORT_BLOCK_SIZE = 20
# Below the ports that Linux gives to outgoing connections (32768 and above), above the well-known ones.
FREE_BASE_PORTS = range(20_000, 32_000, PORT_BLOCK_SIZE)

# Addresses that mean "every interface": a neighbour in the same machine reaches such a service through loopback.
EVERY_INTERFACE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True)
class ServiceLayout:
    """One service: its port above the base port, whether it has a database, and which services it calls."""

    name: str
    port_offset: int
    has_database: bool
    calls: tuple[str, ...] = ()
    # Called services without which it does not work at all; of the others it uses those that are there.
    needs: tuple[str, ...] = field(default=())

    @property
    def migrations_package(self) -> str:
        """The package with the migrations of its database."""
        return f"services.{self.name}.migrations"


SERVICES: Mapping[str, ServiceLayout] = {
    layout.name: layout
    for layout in (
        ServiceLayout("registry", 1, has_database=True),
        ServiceLayout("weighing", 2, has_database=True, calls=("registry",), needs=("registry",)),
        ServiceLayout("video", 3, has_database=True, calls=("registry", "weighing"), needs=("registry",)),
        ServiceLayout("enforcement", 5, has_database=True, calls=("registry",), needs=("registry",)),
        ServiceLayout("relay", 6, has_database=False, calls=("registry", "weighing", "video", "enforcement")),
    )
}


@dataclass(frozen=True)
class ServiceAddresses:
    """Where a service listens, and where the same machine reaches it."""

    listen: str
    local: str
    health: str
    port: int
    health_port: int


def addresses(services: Iterable[str], listen_host: str, base_port: int) -> dict[str, ServiceAddresses]:
    """Return the addresses of the services of a platform. Health checks answer on loopback only."""
    reached = EVERY_INTERFACE.get(listen_host, listen_host)
    result = {}
    for name in services:
        port = base_port + SERVICES[name].port_offset
        result[name] = ServiceAddresses(
            listen=join(listen_host, port),
            local=join(reached, port),
            health=join(LOOPBACK, port + HEALTH_OFFSET),
            port=port,
            health_port=port + HEALTH_OFFSET,
        )
    return result


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address. Raises ValueError for what is no address."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def join(host: str, port: int) -> str:
    """Write host and port as one address, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """Take a port without listening on it; OSError when someone has it. The caller closes the socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Like a server would: connections of a former one that are still closing are no obstacle.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except BaseException:
        taken.close()
        raise
    return taken


def reserve(base_port: int) -> socket.socket:
    """Reserve a base port for as long as the socket stays open; OSError when another platform has it."""
    # Listening, because two sockets with SO_REUSEADDR may both be bound while neither listens.
    reservation = bind(LOOPBACK, base_port + RESERVATION_OFFSET)
    try:
        reservation.listen(1)
    except BaseException:
        reservation.close()
        raise
    return reservation


def is_free(host: str, port: int) -> bool:
    """Say whether a service could listen there now."""
    try:
        with bind(host, port) as taken:
            # Bound beside a listener is possible with some socket options; listening beside one is not.
            taken.listen(1)
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of loopback that nobody has now; nobody keeps it: take it at once."""
    with bind(LOOPBACK, 0) as taken:
        return int(taken.getsockname()[1])


def reserve_any(listen_host: str) -> tuple[int, socket.socket]:
    """Find and reserve a base port whose whole block is free; OSError when there is none."""
    # SystemRandom: two platforms that start together try different blocks, also with equal seeds.
    for base_port in random.SystemRandom().sample(FREE_BASE_PORTS, k=len(FREE_BASE_PORTS)):
        try:
            reservation = reserve(base_port)
        except OSError:
            continue
        block = addresses(SERVICES, listen_host, base_port).values()
        if is_free(LOOPBACK, base_port + OBJECT_SERVER_OFFSET) and all(
            is_free(listen_host, found.port) and is_free(LOOPBACK, found.health_port) for found in block
        ):
            return base_port, reservation
        reservation.close()
    raise OSError(
        f"no free block of {PORT_BLOCK_SIZE} ports in {FREE_BASE_PORTS.start}-{FREE_BASE_PORTS.stop} 没有空闲的连续端口"
    )


@dataclass(frozen=True)
class PlatformFiles:
    """The files of a platform below its data directory."""

    directory: Path

    @property
    def lock(self) -> Path:
        """Held while a platform runs here."""
        return self.directory / "platform.lock"

    @property
    def state(self) -> Path:
        """Which platform this is, where it listens and which processes it is (see `platform_state`)."""
        return self.directory / "platform.json"

    @property
    def signing_key(self) -> Path:
        """The Ed25519 private key that signs this platform's journals."""
        return self.directory / "keys" / "signing.pem"

    @property
    def secrets(self) -> Path:
        """Tokens of the services and of the people of this machine."""
        return self.directory / "secrets"

    @property
    def service_token(self) -> Path:
        """The secret by which the services know each other."""
        return self.secrets / "service.token"

    @property
    def bootstrap_token(self) -> Path:
        """The secret with which the first security administrator is appointed."""
        return self.secrets / "bootstrap.token"

    @property
    def postgres(self) -> Path:
        """The embedded database server."""
        return self.directory / "postgres"

    @property
    def object_server(self) -> Path:
        """The platform's own S3 server with the evidence."""
        return self.directory / "object-store"

    @property
    def object_access_key(self) -> Path:
        """The access key of the platform's own S3 server."""
        return self.secrets / "object-store-access.key"

    @property
    def object_secret_key(self) -> Path:
        """The secret of that key."""
        return self.secrets / "object-store-secret.key"

    @property
    def spool(self) -> Path:
        """Evidence whose upload is under way."""
        return self.directory / "spool"
