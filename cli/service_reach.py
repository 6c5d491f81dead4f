"""Which service of a platform a command means, and who calls it: by data directory, by address, or the one that runs
here.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.access import CallerAccess, CallerOptions, access_options, caller_access, open_channel, refusal

if TYPE_CHECKING:
    import grpc

DATA = click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of a running platform. 平台数据目录。",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Reach:
    """Which service is meant, and who calls it, as the command line says."""

    data_directory: Path | None
    address: str | None
    options: CallerOptions


@dataclass(frozen=True, slots=True)
class ReachedService:
    """A service that commands reach: its name on a platform, which is that of its option, and its titles."""

    name: str
    title: str
    title_zh: str

    def reaching(self, command: Command) -> Command:
        """Add the options that say which service is meant and who calls, as one argument, and `--json`."""

        @functools.wraps(command)
        def call(data_directory: Path | None, address: str | None, caller_options: CallerOptions, **more: Any) -> None:
            command(reach=Reach(data_directory, address, caller_options), **more)

        address_option = click.option(
            f"--{self.name}",
            "address",
            metavar="HOST:PORT",
            help=f"Address of the {self.title}. {self.title_zh}地址。",
        )
        return DATA(address_option(access_options(JSON(call))))

    @contextmanager
    def channel(
        self,
        reach: Reach,
        local_names: tuple[str, ...],
        told: "Callable[[grpc.RpcError, CallerAccess], click.ClickException]" = refusal,
    ) -> "Iterator[grpc.Channel]":
        """Open a channel to the service that is meant; what it refuses becomes a message, by default `refusal`.

        `local_names` are whose tokens are shown on a local platform unless told otherwise.
        """
        import grpc

        address, access = self._meant(reach, local_names)
        with open_channel(address, access) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                raise told(error, access) from error

    def _meant(self, reach: Reach, local_names: tuple[str, ...]) -> tuple[str, CallerAccess]:
        """Return the address of the service, and who calls it."""
        from cli.one_platform import one_platform
        from cli.status_targets import local_directory

        if reach.data_directory is not None and reach.address:
            raise click.UsageError(f"give --data or --{self.name}, not both 两者只能给出一个")
        if reach.address:
            return reach.address, caller_access(reach.options, local_directory(reach.address), local_names)
        target = one_platform([str(reach.data_directory)] if reach.data_directory is not None else [], reach.options)
        if self.name not in target.addresses:
            raise click.ClickException(f"{target.platform} has no {self.title} there 该平台未运行{self.title_zh}")
        return target.addresses[self.name], caller_access(target.options, target.data_directory, local_names)
