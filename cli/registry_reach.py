"""Which registry a command means, and who calls it: by data directory, by address, or the one that runs here."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.access import CallerOptions, access_options, caller_access, open_channel, refusal

if TYPE_CHECKING:
    import grpc

    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

_DATA = click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of a running platform. 平台数据目录。",
)
_REGISTRY = click.option("--registry", metavar="HOST:PORT", help="Address of the registry. 登记服务地址。")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which registry is meant, and who calls it, as the command line says."""

    data_directory: Path | None
    registry: str | None
    options: CallerOptions


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which registry is meant and who calls, as one argument, and `--json`."""

    @functools.wraps(command)
    def call(data_directory: Path | None, registry: str | None, caller_options: CallerOptions, **more: Any) -> None:
        command(reach=Reach(data_directory, registry, caller_options), **more)

    return _DATA(_REGISTRY(access_options(_JSON(call))))


@contextmanager
def access_service(reach: Reach, local_names: tuple[str, ...]) -> "Iterator[AccessServiceStub]":
    """Reach the access service of the registry that is meant; what it refuses becomes a message."""
    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

    with registry_channel(reach, local_names) as channel:
        yield AccessServiceStub(channel)


@contextmanager
def registry_channel(reach: Reach, local_names: tuple[str, ...]) -> "Iterator[grpc.Channel]":
    """Open a channel to the registry that is meant; what it refuses becomes a message."""
    import grpc

    from cli.status_targets import local_directory

    if reach.data_directory is not None and reach.registry:
        raise click.UsageError("give --data or --registry, not both 两者只能给出一个")
    if reach.registry:
        address, directory, options = reach.registry, local_directory(reach.registry), reach.options
    else:
        address, directory, options = _local_registry(reach.data_directory, reach.options)
    access = caller_access(options, directory, local_names)
    with open_channel(address, access) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise refusal(error, access) from error


def _local_registry(data_directory: Path | None, options: CallerOptions) -> tuple[str, str, CallerOptions]:
    """Return the address of the registry of the one platform that is meant, its data directory, and who calls it."""
    from cli.one_platform import one_platform

    target = one_platform([str(data_directory)] if data_directory is not None else [], options)
    if "registry" not in target.addresses:
        raise click.ClickException(f"{target.platform} has no registry there 该平台未运行登记服务")
    return target.addresses["registry"], target.data_directory, target.options
