"""What a relay learns from the registry of its platform, said by a small AccessService on a real gRPC server."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

import grpc

from services.common.access.divisions import code_above
from services.common.access.tokens import ServiceTokens, bearer, digest, format_token, new_secret
from services.common.request import request_context
from services.common.rpc_client import connect
from services.common.rpc_server import RpcServer
from tests.access import Access, Metadata, service_token_file
from zhichao.access.v1 import credential_pb2, service_pb2, service_pb2_grpc

SAYS_SECONDS: Final = 0.5
"""How often it says something when nothing changes; a registry does so every 2 seconds."""


@dataclass
class Registered:
    """What is recorded of one platform."""

    upstream: str
    valid_from: str = ""
    valid_until: str = ""


@dataclass
class Statement:
    """All that is recorded, and how often it has changed."""

    platforms: dict[str, Registered] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    number: int = 0


def _unused(self: object, request: object, context: object) -> NoReturn:
    raise AssertionError("the relay has no business with this method")


def token_file_of(directory: Path, platform: str) -> Path:
    """Return the file with the service token of a platform, made at the first call."""
    own = directory / f"{platform}-tokens"
    own.mkdir(exist_ok=True)
    return service_token_file(own)


class FakeRegistry(service_pb2_grpc.AccessServiceServicer):
    """Knows one person, who may look at links, and platforms: at first all that lie directly below by their codes."""

    def __init__(self, directory: Path, platform: str) -> None:
        self.platform = platform
        self.address = f"unix:{directory}/{platform}-access.sock"
        self.token_file = token_file_of(directory, platform)
        self.tokens = ServiceTokens(self.token_file)
        self._secret = new_secret()
        self._changed = threading.Condition()
        self._statement = Statement({code: Registered(platform) for code in _codes_below(platform)})
        # Let go to say anything at all.
        self.may_say = threading.Event()
        self.may_say.set()
        self._server: RpcServer | None = None

    def start(self) -> None:
        """Start it; its statement stays what it was."""
        self._server = RpcServer("registry", self.address, Access(self.platform, tokens=self.tokens).control)
        self._server.add(
            lambda server: service_pb2_grpc.add_AccessServiceServicer_to_server(self, server),
            service_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
        )
        self._server.start()

    def stop(self) -> None:
        """Stop it. May be called again."""
        if self._server is not None:
            self.may_say.set()
            self._server.stop(0.5)
            self._server = None

    def open_channel(self) -> grpc.Channel:
        """Open a channel as a service of the platform does."""
        return connect(self.address, credentials=self.tokens.metadata("relay"))

    def viewer(self) -> Metadata:
        """Return the credentials of the person who looks at links."""
        metadata = bearer(format_token("viewer", self._secret))
        return lambda: metadata

    # What is recorded

    def register(self, code: str, *, upstream: str = "", valid_from: str = "", valid_until: str = "") -> None:
        """Record a platform, below this one unless another upstream is named."""
        self._change(code, Registered(upstream or self.platform, valid_from, valid_until))

    def forget(self, code: str) -> None:
        """Record a platform no more."""
        self._change(code, None)

    def place(self, division: str, parent: str) -> None:
        """Record that a division lies below another one than its code says."""
        with self._changed:
            self._statement.parents[division] = parent
            self._statement.number += 1
            self._changed.notify_all()

    def _change(self, code: str, registered: Registered | None) -> None:
        with self._changed:
            if registered is None:
                self._statement.platforms.pop(code, None)
            else:
                self._statement.platforms[code] = registered
            self._statement.number += 1
            self._changed.notify_all()

    # AccessService

    CreateCredential = GetCredential = ListCredentials = UpdateCredential = RotateCredential = _unused
    RevokeCredential = GetIdentity = _unused

    def WatchAccess(
        self, request: service_pb2.WatchAccessRequest, context: grpc.ServicerContext
    ) -> Iterator[service_pb2.WatchAccessResponse]:
        call = request_context()
        told = -1
        call.on_end(self._wake)
        while call.is_active():
            if not self.may_say.wait(SAYS_SECONDS):
                continue
            with self._changed:
                if self._statement.number == told:
                    self._changed.wait(SAYS_SECONDS)
                is_news = self._statement.number != told
                told = self._statement.number
                response = self._response() if is_news else service_pb2.WatchAccessResponse(is_complete=True)
            yield response

    def ReportUse(
        self, request: service_pb2.ReportUseRequest, context: grpc.ServicerContext
    ) -> service_pb2.ReportUseResponse:
        return service_pb2.ReportUseResponse()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _response(self) -> service_pb2.WatchAccessResponse:
        response = service_pb2.WatchAccessResponse(is_restart=True, is_complete=True)
        ends = datetime.now(UTC) + timedelta(days=300)
        viewer = response.credentials.add(
            credential_id="viewer",
            kind=credential_pb2.PRINCIPAL_KIND_PERSON,
            division_code=self.platform,
            roles=[credential_pb2.ROLE_VIEWER],
        )
        # Tests look as often as they can.
        viewer.limits.calls_per_second = viewer.limits.burst_calls = 100_000
        viewer.expire_time.FromDatetime(ends)
        viewer.secrets.add(digest=digest(self._secret)).expire_time.FromDatetime(ends)
        for code, one in self._statement.platforms.items():
            response.platforms.add(
                platform_code=code,
                upstream_code=one.upstream,
                valid_from=one.valid_from,
                valid_until=one.valid_until,
            )
        for division, parent in self._statement.parents.items():
            response.divisions.add(division_code=division, parent_code=parent)
        return response


def _codes_below(platform: str) -> list[str]:
    """Return the codes of divisions directly below one, as many as two digits can name."""
    digits = 4 if platform.endswith("00") and not platform.endswith("0000") else 2
    candidates = [f"{platform[:digits]}{number:02}".ljust(6, "0") for number in range(1, 100)]
    return [code for code in candidates if code_above(code) == platform]
