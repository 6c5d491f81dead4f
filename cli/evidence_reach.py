"""Which video service a command means, and who calls it: by data directory, by address, or the one that runs here."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.access import CallerAccess, CallerOptions, access_options, caller_access, open_channel, refusal

if TYPE_CHECKING:
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CALL_SECONDS_MAX: Final = 30.0
"""What writes a custody event is answered in milliseconds; an upload that ends is inspected and stored first."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

_DATA = click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of a running platform. 平台数据目录。",
)
_ADDRESS = click.option("--video", "address", metavar="HOST:PORT", help="Address of the video service. 视频服务地址。")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which video service is meant, and who calls it, as the command line says."""

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
def video_service(reach: Reach) -> "Iterator[VideoServiceStub]":
    """Reach the service that is meant; what it refuses becomes a message."""
    import grpc

    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

    address, access = _meant(reach)
    with open_channel(address, access) as channel:
        try:
            yield VideoServiceStub(channel)
        except grpc.RpcError as error:
            raise refusal(error, access) from error


def _meant(reach: Reach) -> tuple[str, CallerAccess]:
    """Return the address of the service, and who calls it."""
    from cli.one_platform import one_platform
    from cli.status_targets import local_directory

    if reach.data_directory is not None and reach.address:
        raise click.UsageError("give --data or --video, not both 两者只能给出一个")
    if reach.address:
        return reach.address, caller_access(reach.options, local_directory(reach.address), CALLER_TOKENS)
    target = one_platform([str(reach.data_directory)] if reach.data_directory is not None else [], reach.options)
    if "video" not in target.addresses:
        raise click.ClickException(f"{target.platform} has no video service there 该平台未运行视频服务")
    return target.addresses["video"], caller_access(target.options, target.data_directory, CALLER_TOKENS)
