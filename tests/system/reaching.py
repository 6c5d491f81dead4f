"""How tests reach services: as one of the people of a platform's machine, or as those who weigh at a site."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from cli.platform_layout import PlatformFiles
from cli.token_file import SECRETS_DIRECTORY, read_token
from services.common.access.tokens import ServiceTokens, bearer
from services.common.rpc_client import connect, with_credentials
from zhichao.weighing.v1 import service_pb2_grpc

# People whose tokens `zhichao up` puts into the data directory.
OPERATOR: Final = "operator"
SECURITY: Final = "security"

# How the checker is named in logs.
CHECKER: Final = "checker"

# Meets a restarted service soon; gRPC would wait for up to five seconds.
SOON: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True)
class Place:
    """One service of a platform, and the data directory with the tokens of those who may ask it."""

    address: str
    data_directory: Path

    def connect(self, person: str) -> grpc.Channel:
        """Open a connection of one of the people, who has been given a token. The caller closes it."""
        token = read_token(self.data_directory / SECRETS_DIRECTORY / f"{person}.token")
        return connect(self.address, credentials=partial(bearer, token))

    def connect_as_service(self) -> grpc.Channel:
        """Open a connection as one of the platform's own services: what they read leaves no trace in the journal.

        The caller closes it.
        """
        secrets = ServiceTokens(PlatformFiles(self.data_directory).service_token)
        return connect(self.address, credentials=secrets.metadata(CHECKER))


@dataclass(frozen=True)
class Gate:
    """A weighing service as a site reaches it: the terminals of each unit, and a firm that sends for all units."""

    address: str
    # By source unit.
    terminal_tokens: Mapping[str, str]
    firm_token: str

    def connect(self) -> grpc.Channel:
        """Open a connection that says nothing of who calls. The caller closes it."""
        return connect(self.address, options=SOON)

    def firm(self, channel: grpc.Channel) -> service_pb2_grpc.WeighingServiceStub:
        """Return what calls as the firm."""
        return _stub(channel, self.firm_token)

    def terminals(self, channel: grpc.Channel) -> Mapping[str, service_pb2_grpc.WeighingServiceStub]:
        """Return what calls as the terminals of each unit."""
        return {unit: _stub(channel, token) for unit, token in self.terminal_tokens.items()}


def _stub(channel: grpc.Channel, token: str) -> service_pb2_grpc.WeighingServiceStub:
    return service_pb2_grpc.WeighingServiceStub(with_credentials(channel, partial(bearer, token)))
