"""The evidence store of a platform that names none: its own S3 server beside its data, and the settings to reach it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cli.object_server import ObjectServer, ObjectServerError
from cli.platform_layout import OBJECT_SERVER_OFFSET, PlatformFiles, is_loopback
from cli.up_options import ExitCode, UpError, UpOptions

ENDPOINT_VARIABLE: Final = "ZHICHAO_VIDEO_S3_ENDPOINT"
PUBLIC_ENDPOINT_VARIABLE: Final = "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT"
ACCESS_KEY_VARIABLE: Final = "ZHICHAO_VIDEO_S3_ACCESS_KEY_FILE"
SECRET_KEY_VARIABLE: Final = "ZHICHAO_VIDEO_S3_SECRET_KEY_FILE"  # noqa: S105 - the name of a setting
SPOOL_VARIABLE: Final = "ZHICHAO_VIDEO_SPOOL_DIRECTORY"


def is_wanted(options: UpOptions) -> bool:
    """Say whether the platform brings its own store: it runs the video service and names no other one."""
    return "video" in options.services and not options.given(ENDPOINT_VARIABLE)


@dataclass
class OwnStore:
    """The S3 server of one run; nothing at all where it is not wanted."""

    options: UpOptions
    files: PlatformFiles
    server: ObjectServer | None = field(default=None, init=False)

    def start(self, base_port: int) -> None:
        """Start the server if it is wanted; it has its port from the platform's base port. Raises UpError."""
        if not is_wanted(self.options):
            return
        self.server = ObjectServer(
            self.files.object_server,
            port=base_port + OBJECT_SERVER_OFFSET,
            access_key_file=self.files.object_access_key,
            secret_key_file=self.files.object_secret_key,
        )
        try:
            self.server.start()
        except ObjectServerError as error:
            raise UpError(ExitCode.SERVICE, f"the evidence store: {error} 证据库无法启动") from error

    def stop(self) -> None:
        """Stop the server if there is one."""
        if self.server is not None:
            self.server.stop()

    @property
    def pid(self) -> int | None:
        """The server's process while it answers."""
        return self.server.pid if self.server is not None else None

    @property
    def endpoint(self) -> str:
        """Where the server is; empty when there is none."""
        return self.server.endpoint if self.server is not None else ""

    def environment(self) -> Mapping[str, str]:
        """Return the settings of the video service that it cannot have by itself; what was given stays."""
        if "video" not in self.options.services:
            return {}
        result = {}
        if not self.options.given(SPOOL_VARIABLE):
            result[SPOOL_VARIABLE] = str(self.files.spool)
        if self.server is not None:
            result[ENDPOINT_VARIABLE] = self.server.endpoint
            result[ACCESS_KEY_VARIABLE] = str(self.files.object_access_key)
            result[SECRET_KEY_VARIABLE] = str(self.files.object_secret_key)
            # Links to it work on this machine only: they are for those whose services are there, too.
            if is_loopback(self.options.listen) and not self.options.given(PUBLIC_ENDPOINT_VARIABLE):
                result[PUBLIC_ENDPOINT_VARIABLE] = self.server.endpoint
        return result
