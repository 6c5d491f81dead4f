"""A county, a city and a province of three administrations: real processes, each on a loopback address of its own,
joined by mutual TLS and by nothing else; with people, terminals, and certificates that are not what they should be.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final, Self

import grpc
import psycopg

from cli.pki.authority import Authority, Validity
from cli.pki.files import write_authority, write_pair
from cli.simulate.site import CITY, COUNTY, PROVINCE
from services.common.access.tokens import bearer
from services.common.rpc_client import connect, service_error
from services.common.tls import Tls
from tests.certificates import days_ago, platform_files
from tests.registry import access_examples
from tests.system.joined import CALL_SECONDS, WAIT_SECONDS, Joined
from tests.system.journals import read_positions
from tests.system.reaching import Place
from tests.system.waiting import wait_until
from zhichao.access.v1 import credential_pb2, service_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.journal.v1 import access_record_pb2, addressed_pb2, entry_pb2

HOSTS: Final = {COUNTY: "127.0.0.2", CITY: "127.0.0.3", PROVINCE: "127.0.0.4"}
OTHER_COUNTY: Final = "141026"
OTHER_CITY: Final = "140100"
STREAMS: Final = ("registry", "weighing", "video", "enforcement")

AUDITED: Final = frozenset({access_record_pb2.AccessRecord.DESCRIPTOR.full_name})
RECEIPT: Final = addressed_pb2.AddressedReceipt.DESCRIPTOR.full_name
"""What may be written when somebody is refused: that it was."""

KNOWN_POLL_SECONDS: Final = 0.5
"""How often a new token is tried until it is known: ten failures within a minute would delay the tests that follow."""

Metadata = tuple[tuple[str, str | bytes], ...]
Line = Mapping[str, Any]
Heads = Mapping[tuple[str, str, str], tuple[int, str]]


@dataclass(frozen=True)
class Ended:
    """How a call ended: its status, and the reason of its ErrorInfo."""

    status: str
    reason: str


class Administrations:
    """The three of them; a context manager that starts them and stops them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.new("zhichao", days_ago(400, -400))
        write_authority(directory / "pki" / "ca", self.authority)
        for code, host in HOSTS.items():
            pair = self.authority.issue_platform(code, (host,), Validity.of_days(30))
            write_pair(directory / "pki" / code, pair, self.authority)
        self.joined = Joined(directory, hosts=HOSTS)
        self.tokens: dict[str, str] = {}
        self._stack = ExitStack()
        self._requests = 0

    def __enter__(self) -> Self:
        """Start them, register the site at the county, and wait until all three hold the same."""
        with ExitStack() as starting:
            starting.enter_context(self.joined)
            self.joined.record(self.joined.take(20))
            self.wait_settled()
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self._stack.__exit__(kind, error, trace)

    # Who calls

    @property
    def units(self) -> tuple[str, str]:
        """The two source units of the county."""
        first, second = self.joined.site.units
        return first.source_unit_id, second.source_unit_id

    def issue(self, platform: str, credential: credential_pb2.Credential, *, lives: timedelta | None = None) -> str:
        """Issue a credential at a platform and return its token."""
        request: Any = service_pb2.CreateCredentialRequest(credential=credential)
        if lives is not None:
            request.credential.expire_time.FromDatetime(datetime.now(UTC) + lives)
        with self.joined.platforms[platform].connect("registry", "security") as channel:
            token = str(AccessServiceStub(channel).CreateCredential(request, timeout=CALL_SECONDS).token)
        self.tokens[credential.credential_id] = token
        return token

    def terminal(self, unit: str, credential_id: str, **fields: Any) -> str:
        """Issue the token of a terminal at the county."""
        return self.issue(COUNTY, access_examples.terminal(unit, credential_id=credential_id, **fields))

    def person(self, platform: str, division: str, role: str, credential_id: str) -> str:
        """Issue the token of a person."""
        return self.issue(platform, access_examples.person(division, role, credential_id=credential_id))

    def operator(self, platform: str) -> str:
        """Return the name of the operator of a platform's machine in logs."""
        with self.joined.platforms[platform].connect("registry") as channel:
            answer = AccessServiceStub(channel).GetIdentity(service_pb2.GetIdentityRequest(), timeout=CALL_SECONDS)
        return str(answer.principal)

    def revoke(self, platform: str, credential_id: str) -> None:
        """Revoke a credential."""
        with self.joined.platforms[platform].connect("registry", "security") as channel:
            request = service_pb2.RevokeCredentialRequest(credential_id=credential_id, reason="遗失")
            AccessServiceStub(channel).RevokeCredential(request, timeout=CALL_SECONDS)

    def wait_known(self, call: Callable[[Metadata], Any], token: str) -> None:
        """Wait until a service takes a token that was just issued."""
        deadline = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS)
        while ended(lambda: call(bearer(token))).reason == "INVALID_CREDENTIALS":
            assert datetime.now(UTC) < deadline, "the token is not known"
            Event().wait(KNOWN_POLL_SECONDS)

    # Where they call

    def channel(self, platform: str, service: str) -> grpc.Channel:
        """Open a connection to a service that says nothing of who calls. The caller closes it."""
        return connect(self.joined.platforms[platform].address(service))

    def peer(self, platform: str, tls: Tls | None) -> grpc.Channel:
        """Open a connection to the port for platforms below, with certificates or in plain text."""
        return connect(self.joined.platforms[platform].peer_address, tls=tls)

    def certificate(
        self, code: str, *, validity: Validity | None = None, authority: Authority | None = None, name: str = ""
    ) -> Tls:
        """Issue a certificate with the name of a platform, by the authority of all unless another one is given."""
        folder = self.directory / "peers" / (name or code)
        files = platform_files(
            folder,
            authority or self.authority,
            code,
            trusting=(self.authority,),
            validity=validity or days_ago(1, -30),
        )
        return Tls(files)

    # What is left of a call

    def new_request_id(self) -> str:
        """Return an id that no request had."""
        self._requests += 1
        return f"attempt-{self._requests}"

    def lines(self, platform: str, request_id: str) -> list[Line]:
        """Return the lines in which a platform tells how one request ended.

        What its own services asked each other for it has the same id, and is not what its caller did.
        """
        return [
            line
            for line in self.lines_of(platform, "request_finished")
            if line["request_id"] == request_id and not line["principal"].startswith("service/")
        ]

    def lines_of(self, platform: str, event: str) -> list[Line]:
        """Return the lines of one event that a platform has logged."""
        text = self.joined.platforms[platform].log_text()
        return [json.loads(line) for line in text.splitlines() if f'"event":"{event}"' in line]

    def handshakes_failed(self, platform: str) -> list[str]:
        """Return the lines in which gRPC says that a handshake of TLS failed: those are not ours."""
        text = self.joined.platforms[platform].log_text()
        return [line for line in text.splitlines() if "Handshake failed" in line]

    def heads(self) -> Heads:
        """Return size and root of every log that anybody holds."""
        return {
            (code, stream, origin): (position.size, position.root.hex())
            for code, process in self.joined.platforms.items()
            for stream in STREAMS
            for origin, position in read_positions(Place(process.address(stream), process.data_directory)).items()
        }

    def written_since(self, heads: Heads) -> set[str]:
        """Return the kinds of entries by which any log has grown since its head was looked at."""
        kinds: set[str] = set()
        for (code, stream, origin), (size, _) in self.heads().items():
            before, _ = heads.get((code, stream, origin), (0, ""))
            if size != before:
                with psycopg.connect(self.joined.platforms[code].database_url(stream)) as connection:
                    rows = connection.execute(
                        "SELECT entry FROM journal_entries WHERE origin = %s AND sequence > %s", (origin, before)
                    ).fetchall()
                kinds |= {entry_pb2.Entry.FromString(bytes(entry)).kind for (entry,) in rows}
        return kinds

    def wait_settled(self) -> None:
        """Wait until everybody holds what those below hold, and nothing is written any more."""

        def is_settled() -> bool:
            heads = self.heads()
            levels = (COUNTY, CITY, PROVINCE)
            return (
                all(
                    heads.get((upper, stream, origin)) == place
                    for lower, upper in pairwise(levels)
                    for (code, stream, origin), place in heads.items()
                    # A platform holds of those above it what is addressed to it, not their logs.
                    if code == lower
                )
                and self.heads() == heads
            )

        wait_until(is_settled, WAIT_SECONDS, lambda: f"not the same everywhere: {self.heads()}\n{self.joined.tails()}")


def ended(call: Callable[[], Any]) -> Ended:
    """Make a call and say how it ended; a call that is answered is OK."""
    try:
        call()
    except grpc.RpcError as error:
        # What gRPC raises is also the call; the types do not say so.
        failed: Any = error
        has_reason = any(key == "grpc-status-details-bin" for key, _ in failed.trailing_metadata() or ())
        return Ended(failed.code().name, service_error(error).reason.value if has_reason else "")
    return Ended("OK", "")
