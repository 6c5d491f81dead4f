"""Which registry a command means, and who calls it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

from cli.service_reach import Reach, ReachedService

if TYPE_CHECKING:
    import grpc

    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

_REGISTRY: Final = ReachedService("registry", "registry", "登记服务")

reaching = _REGISTRY.reaching


@contextmanager
def access_service(reach: Reach, local_names: tuple[str, ...]) -> "Iterator[AccessServiceStub]":
    """Reach the access service of the registry that is meant; what it refuses becomes a message."""
    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

    with registry_channel(reach, local_names) as channel:
        yield AccessServiceStub(channel)


def registry_channel(reach: Reach, local_names: tuple[str, ...]) -> "AbstractContextManager[grpc.Channel]":
    """Open a channel to the registry that is meant; what it refuses becomes a message."""
    return _REGISTRY.channel(reach, local_names)
