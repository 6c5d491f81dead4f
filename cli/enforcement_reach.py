"""Which enforcement service a command means, and who calls it: by data directory, by address, or the one that runs
here.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.access import CallerOptions, access_options, caller_access, open_channel, refusal

if TYPE_CHECKING:
    from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

CALL_SECONDS_MAX: Final = 20.0
"""A directive is written in milliseconds; who issues one waits for the registry too."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

_DATA = click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of a running platform. 平台数据目录。",
)
_ADDRESS = click.option(
    "--enforcement", "address", metavar="HOST:PORT", help="Address of the enforcement service. 执法服务地址。"
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which enforcement service is meant, and who calls it, as the command line says."""

    data_directory: Path | None
    address: str | None
    options: CallerOptions


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which service is meant and who calls, as one argument, and `--json`."""

    @functools.wraps(command)
    def call(data_directory: Path | None, address: str | None, caller_options: CallerOptions, **more: Any) -> None:
        command(reach=Reach(data_directory, address, caller_options), **more)

    return _DATA(_ADDRESS(access_options(_JSON(call))))


@contextmanager
def enforcement_service(reach: Reach, *, repeat_with: str = "") -> "Iterator[EnforcementServiceStub]":
    """Reach the service that is meant; what it refuses becomes a message.

    `repeat_with` is what makes a repeated command the same one, told when nobody knows what became of the first.
    """
    import grpc

    from cli.status_targets import local_directory
    from services.common.rpc_client import service_error
    from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

    if reach.data_directory is not None and reach.address:
        raise click.UsageError("give --data or --enforcement, not both 两者只能给出一个")
    if reach.address:
        address, directory, options = reach.address, local_directory(reach.address), reach.options
    else:
        address, directory, options = _local_service(reach)
    access = caller_access(options, directory, CALLER_TOKENS)
    with open_channel(address, access) as channel:
        try:
            yield EnforcementServiceStub(channel)
        except grpc.RpcError as error:
            told = refusal(error, access)
            if repeat_with and service_error(error).is_retryable:
                again = f"again, without issuing it twice 可用相同编号重试: {repeat_with}"
                raise click.ClickException(f"{told.message}\n  {again}") from error
            raise told from error


def _local_service(reach: Reach) -> tuple[str, str, CallerOptions]:
    """Return the address of the one platform that is meant, its data directory, and who calls it."""
    from cli.one_platform import one_platform

    target = one_platform([str(reach.data_directory)] if reach.data_directory is not None else [], reach.options)
    if "enforcement" not in target.addresses:
        raise click.ClickException(f"{target.platform} has no enforcement service there 该平台未运行执法服务")
    return target.addresses["enforcement"], target.data_directory, target.options
