"""Every RPC that a server of this suite can be asked, read from the descriptors: a new one is fuzzed without a word."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from services.common.access.methods import MethodAccess, access_table
from services.common.access.permissions import Permission

PROTOS: Final = Path(__file__).resolve().parents[2] / "protos"

# gRPC names the types of its generated code otherwise.
HEALTH: Final[Any] = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION: Final[Any] = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

UNSERVED: Final = frozenset({f"{HEALTH.full_name}/List"})
"""What the proto of somebody else has and we do not serve: UNIMPLEMENTED, as gRPC says of any such method."""

# What changes who is below whom and who may do what: a fuzzer that may do it would change who it is itself.
_POWERFUL: Final = frozenset(
    {Permission.REGISTRY_WRITE, Permission.PLATFORM_WRITE, Permission.CREDENTIAL_WRITE, Permission.RULE_SET_WRITE}
)


@dataclass(frozen=True)
class Rpc:
    """One RPC, with what its proto says of it. Of health nothing is demanded."""

    method: MethodDescriptor
    access: MethodAccess

    @property
    def service(self) -> str:
        """Full name of its service."""
        return str(self.method.containing_service.full_name)

    @property
    def name(self) -> str:
        """Name as in logs."""
        return f"{self.service}/{self.method.name}"

    @property
    def path(self) -> str:
        """Path of its calls."""
        return f"/{self.name}"

    @property
    def request(self) -> Descriptor:
        """Type of its requests."""
        return self.method.input_type

    @property
    def response(self) -> Descriptor:
        """Type of its answers."""
        return self.method.output_type

    @property
    def reads_stream(self) -> bool:
        """Whether it takes many requests."""
        return bool(self.method.client_streaming)

    @property
    def answers_stream(self) -> bool:
        """Whether it gives many answers."""
        return bool(self.method.server_streaming)

    @property
    def is_powerful(self) -> bool:
        """Whether it changes what other calls of the fuzzer depend on."""
        return self.access.permission in _POWERFUL

    @property
    def is_open_to_all(self) -> bool:
        """Whether nobody has to say who calls."""
        return bool(self.service == HEALTH.full_name)


def contract_services() -> Iterator[ServiceDescriptor]:
    """Yield the services of all protos of this repository."""
    for path in sorted(PROTOS.rglob("*.proto")):
        module = ".".join(path.relative_to(PROTOS).with_suffix("").parts)
        file = importlib.import_module(f"{module}_pb2").DESCRIPTOR
        yield from file.services_by_name.values()


def every_service() -> dict[str, ServiceDescriptor]:
    """Return all services that a server can have, by full name."""
    services: list[ServiceDescriptor] = [*contract_services(), HEALTH, REFLECTION]
    return {one.full_name: one for one in services}


def rpcs_of(services: Sequence[str]) -> list[Rpc]:
    """Return the RPCs of services by their full names. Raises KeyError for a service that nobody knows."""
    known = every_service()
    descriptors = [known[name] for name in services]
    access = access_table([one.full_name for one in descriptors])
    return [Rpc(method, access[f"/{one.full_name}/{method.name}"]) for one in descriptors for method in one.methods]
