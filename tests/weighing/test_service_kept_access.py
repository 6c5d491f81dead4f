"""A weighing service that starts while the registry is away: by what it has kept it lets in whom it may, refuses whom
it knows to have lost the right, and sends away nobody for good who may have been given it meanwhile.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from structlog.testing import capture_logs

from services.common.access.knowledge import KnownCredential
from services.common.access.tokens import bearer, format_token, new_secret
from services.common.database import grant, missing
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.weighing.app import WeighingApp, build
from services.weighing.config import WeighingConfig
from tests.conftest import Databases
from tests.registry import access_examples
from tests.registry.access_calls import Access
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, SCHEMA, RunningWeighing, migrate, register_site
from tests.weighing.records import UNIT, record
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

TABLES = ("access_statements", "access_untold_uses")


class Following(RunningWeighing):
    """A weighing service that asks the registry who may do what, as in production; both go by one clock."""

    def __init__(self, databases: Databases, directory: Path, registry: RunningRegistry) -> None:
        self._registry = registry
        super().__init__(databases, directory, registry.address)

    def start(self) -> None:
        """Start it on its database."""
        self.clock = self._registry.clock
        self.app: WeighingApp = build(WeighingConfig.load(self.environment), self.clock)
        self.app.start()
        self._running.callback(self.app.stop, 2.0)

    def known(self, credential_id: str) -> KnownCredential | None:
        """Return a credential as the service knows it now."""
        return self.app._access.control.knowledge.credential(credential_id)

    def kept(self) -> tuple[Any, ...]:
        """Return the time and the content of what it keeps."""
        rows = self.query("SELECT as_of_time, statement FROM access_statements")
        return rows[0] if rows else ()

    def send(self, token: str, record_id: str) -> int:
        """Record a weighing with a token and return its sequence; a refusal is raised as ServiceError."""
        with connect(self.address, credentials=lambda: bearer(token)) as channel:
            request = pb.RecordWeighingRequest(record=record(record_id))
            try:
                answer = WeighingServiceStub(channel).RecordWeighing(request, timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                raise service_error(error) from None
        return int(answer.recorded.receipt.sequence)

    def refusal(self, token: str, record_id: str = "never") -> ServiceError:  # type: ignore[override]  # by token here
        """Return how a token is refused."""
        with pytest.raises(ServiceError) as raised:
            self.send(token, record_id)
        return raised.value


@pytest.fixture
def county(databases: Databases, socket_directory: Path, short_tail_poll: None) -> Iterator[RunningRegistry]:
    """Run a registry of the test's own, which may be stopped."""
    running = RunningRegistry(databases, socket_directory, PLATFORM)
    register_site(running)
    yield running
    running.close()


@pytest.fixture
def following(databases: Databases, county: RunningRegistry, socket_directory: Path) -> Iterator[Following]:
    """Run the weighing service beside it, until it has heard everything."""
    running = Following(databases, socket_directory, county)
    yield running
    running.close()


def terminal(registry: RunningRegistry, name: str) -> str:
    return str(Access.of(registry).create(access_examples.terminal(UNIT, credential_id=name)).token)


def heard(following: Following, *credential_ids: str) -> None:
    """Wait until the service knows the credentials, and has kept them."""

    def kept_ids() -> set[str]:
        kept = following.kept()
        said = access_pb2.WatchAccessResponse.FromString(kept[1]) if kept else access_pb2.WatchAccessResponse()
        return {one.credential_id for one in said.credentials}

    wait_until(lambda: all(following.known(name) for name in credential_ids), "the credentials are known")
    wait_until(lambda: set(credential_ids) <= kept_ids(), "they are kept")


def revoke(county: RunningRegistry, following: Following, credential_id: str) -> None:
    """Revoke a credential, and wait until the service knows."""
    Access.of(county).revoke(credential_id)

    def is_known() -> bool:
        found = following.known(credential_id)
        return found is not None and found.revoked_at is not None

    wait_until(is_known, "the revocation is known")


def alone(county: RunningRegistry, following: Following) -> None:
    """Stop both, and start the weighing service a minute later without the registry."""
    following.stop()
    county.stop()
    county.clock.moment += timedelta(minutes=1)
    following.start()


def test_terminals_go_on_when_the_registry_is_away_at_a_start(county: RunningRegistry, following: Following) -> None:
    good, lost = terminal(county, "t-1"), terminal(county, "t-2")
    heard(following, "t-1", "t-2")
    revoke(county, following, "t-2")
    alone(county, following)

    assert following.send(good, "while-away") > 0
    revoked = following.refusal(lost)
    assert (revoked.reason, revoked.status) == (Reason.CREDENTIAL_REVOKED, "UNAUTHENTICATED")
    for newer in (format_token("t-3", new_secret()), format_token("t-1", new_secret())):
        refused = following.refusal(newer)
        assert (refused.reason, refused.status) == (Reason.ACCESS_UNKNOWN, "UNAVAILABLE")
        assert refused.retry_after_seconds

    county.start()
    newest = terminal(county, "t-3")
    heard(following, "t-3")
    assert following.send(newest, "newest") > 0
    assert following.refusal(format_token("t-9", new_secret())).reason is Reason.INVALID_CREDENTIALS


def test_knowledge_that_is_too_old_lets_nobody_in(county: RunningRegistry, following: Following) -> None:
    good = terminal(county, "t-1")
    heard(following, "t-1")
    following.stop()
    county.stop()
    following.clock.moment += timedelta(seconds=3700)
    with capture_logs() as logs:
        following.start()
        refused = following.refusal(good)

    assert (refused.reason, refused.status) == (Reason.ACCESS_UNKNOWN, "UNAVAILABLE")
    assert [event["event"] for event in logs if event["event"].startswith("kept_access")] == ["kept_access_not_taken"]
    county.start()
    wait_until(lambda: following.known("t-1"), "the registry is heard again")
    assert following.send(good, "afterwards") > 0


def test_a_restored_database_revives_nobody(county: RunningRegistry, following: Following) -> None:
    """The backup was made before the revocation: what is in it is as old as it is."""
    lost = terminal(county, "t-1")
    heard(following, "t-1")
    following.stop()
    backup = following.query("SELECT platform, as_of_time, digest, seal, statement FROM access_statements")
    following.start()
    heard(following, "t-1")
    revoke(county, following, "t-1")
    following.stop()
    county.stop()
    following.query("DELETE FROM access_statements")
    following.query("INSERT INTO access_statements VALUES (%s, %s, %s, %s, %s)", *backup[0])
    following.clock.moment += timedelta(hours=2)
    following.start()

    assert following.refusal(lost).reason is Reason.ACCESS_UNKNOWN


def test_last_uses_reach_the_registry_after_it_was_away(county: RunningRegistry, following: Following) -> None:
    good = terminal(county, "t-1")
    heard(following, "t-1")
    alone(county, following)
    following.clock.moment += timedelta(minutes=10)
    assert following.send(good, "while-away") > 0
    used = following.clock.moment
    # It is restarted once more before the registry is back.
    following.stop()
    county.start()
    following.start()
    following.stop()

    last_use = Access.of(county).get("t-1").last_use_time.ToDatetime(used.tzinfo)
    assert timedelta() <= used - last_use < timedelta(minutes=1, seconds=10)
    assert following.query("SELECT * FROM access_untold_uses") == []


def test_it_is_kept_with_no_more_rights_than_a_service_has(databases: Databases) -> None:
    """The role that services run with may write to these tables; it owns none of them."""
    url = databases.borrow(SCHEMA, migrate)
    role = "weighing_kept_access"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
    try:
        grant(url, role, "services.weighing.tables")
        user, _, rest = url.removeprefix("postgresql://").partition("@")
        assert missing(f"postgresql://{role}@{rest}", "services.weighing.tables") == [], user
        with psycopg.connect(url) as connection:
            rights = connection.execute(
                "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
                " FROM information_schema.role_table_grants WHERE grantee = %s AND table_name = ANY (%s) GROUP BY 1",
                (role, list(TABLES)),
            ).fetchall()
        assert dict(rights) == dict.fromkeys(TABLES, "DELETE INSERT SELECT UPDATE")
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())
        databases.give_back(SCHEMA, url)


def test_the_statement_is_one_that_the_contract_knows(county: RunningRegistry, following: Following) -> None:
    terminal(county, "t-1")
    heard(following, "t-1")
    _, content = following.kept()
    said = access_pb2.WatchAccessResponse.FromString(content)
    assert [one.credential_id for one in said.credentials] == ["admin", "operator", "t-1"]
    assert [one.display_name for one in said.credentials] == [""] * 3
