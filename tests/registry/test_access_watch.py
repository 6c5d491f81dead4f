"""What services are told of access: everything at first, every change from whichever replica, and a word in between."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.common.access.control import AccessControl
from services.common.access.follower import AccessFollower
from services.common.access.knowledge import AccessKnowledge
from services.common.clock import SystemClock
from services.common.database import create_engine, raw_connection, reading
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.registry import access_statement
from services.registry.access_statement import HEARTBEAT_SECONDS, AccessStatement
from services.registry.app import build
from services.registry.config import RegistryConfig
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create, update
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, eventually
from zhichao.access.v1 import credential_pb2, service_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub


class Watch:
    """Everything that one follower has heard, kept as a service would keep it."""

    def __init__(self, registry: RunningRegistry, token: str = "") -> None:
        stub = AccessServiceStub(registry.channel(token or registry.service_token))
        self.messages: list[service_pb2.WatchAccessResponse] = []
        self.credentials: dict[str, credential_pb2.Credential] = {}
        self.platforms: dict[str, service_pb2.PlatformStanding] = {}
        self.parents: dict[str, str] = {}
        self.error: grpc.RpcError | None = None
        self.call: Any = stub.WatchAccess(service_pb2.WatchAccessRequest())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for message in self.call:
                self._take(message)
        except grpc.RpcError as error:
            self.error = error

    def _take(self, message: service_pb2.WatchAccessResponse) -> None:
        if message.is_restart:
            self.credentials, self.platforms, self.parents = {}, {}, {}
        self.credentials |= {one.credential_id: one for one in message.credentials}
        self.platforms |= {one.platform_code: one for one in message.platforms}
        self.parents |= {one.division_code: one.parent_code for one in message.divisions}
        self.messages.append(message)

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, what)

    def close(self) -> None:
        self.call.cancel()
        self._thread.join(TIMEOUT_SECONDS)


@contextmanager
def watching(registry: RunningRegistry) -> Iterator[Watch]:
    """Watch as a service does; begins when everything has been said."""
    watch = Watch(registry)
    try:
        watch.eventually(lambda: any(message.is_complete for message in watch.messages), "a complete statement")
        yield watch
    finally:
        watch.close()


def test_everything_is_said_first(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(registry, examples.platform())
    create(registry, examples.division())
    Access.of(registry).create(access_examples.person("141025", "VIEWER", credential_id="below"))
    city.receive(registry.batches())
    create(city, examples.platform(platform_code="141026", valid_from="2025-01-01"))
    create(city, examples.division(division_code="140671", parent_code="141026", is_extra_zone=True))
    Access.of(city).create(access_examples.person("141000", "VIEWER", credential_id="p-1"))
    Access.of(city).create(access_examples.person("141000", "VIEWER", credential_id="p-2"))
    Access.of(city).revoke("p-2")

    with watching(city) as watch:
        first = watch.messages[0]
        assert (first.is_restart, first.is_complete) == (True, True)
        # Of its own records only: what a platform below says of others decides nothing.
        assert sorted(watch.credentials) == ["admin", "operator", "p-1", "p-2"]
        assert [len(watch.credentials[name].secrets[0].digest) for name in ("p-1", "p-2")] == [32, 32]
        assert watch.credentials["p-2"].HasField("revoke_time")
        assert watch.platforms == {
            "141026": service_pb2.PlatformStanding(
                platform_code="141026", upstream_code="141000", valid_from="2025-01-01"
            )
        }
        assert watch.parents == {"140671": "141026"}


def test_every_change_is_said_once_and_alone(registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    with watching(registry) as watch:
        access = Access.of(registry)
        access.create(access_examples.terminal(credential_id="t-1"))
        watch.eventually(lambda: "t-1" in watch.credentials, "the new credential")
        access.revoke("t-1")
        watch.eventually(lambda: watch.credentials["t-1"].HasField("revoke_time"), "the revocation")
        create(registry, examples.platform(platform_code="141027"))
        watch.eventually(lambda: "141027" in watch.platforms, "the new platform")
        create(registry, examples.division(division_code="140671", parent_code="141025", is_extra_zone=True))
        watch.eventually(lambda: watch.parents.get("140671") == "141025", "the new division")
        # A scale is nobody's right.
        create(registry, examples.weighing_point())

        said = [message for message in watch.messages if not message.is_restart]
        assert [len(message.credentials) for message in said if message.credentials] == [1, 1]
        assert [message.platforms[0].platform_code for message in said if message.platforms] == ["141027"]
        assert [message.divisions[0].division_code for message in said if message.divisions] == ["140671"]


def test_a_word_is_said_in_between_and_says_how_old_it_is(registry: RunningRegistry) -> None:
    with watching(registry) as watch:
        watch.eventually(lambda: len(watch.messages) >= 3, "two heartbeats")
        times = [message.as_of_time.ToDatetime(tzinfo=UTC) for message in watch.messages[:3]]
        assert times == sorted(set(times))
        for message in watch.messages[1:3]:
            assert (message.is_restart, message.is_complete) == (False, True)
            assert len(message.credentials) + len(message.platforms) + len(message.divisions) == 0


def test_the_contract_says_two_seconds() -> None:
    assert HEARTBEAT_SECONDS <= 2.0


def test_what_another_replica_commits_is_said(registry: RunningRegistry, socket_directory: Path) -> None:
    second = registry.environment | {"ZHICHAO_REGISTRY_LISTEN": f"unix:{socket_directory}/second.sock"}
    app = build(RegistryConfig.load(second), registry.clock)
    app.start()
    try:
        registry.address, first = app.server.address, registry.address
        there = Access.of(registry)
        registry.address = first
        with watching(registry) as watch:
            token = there.create(access_examples.person("141025", "VIEWER", credential_id="p-1")).token
            watch.eventually(lambda: "p-1" in watch.credentials, "the credential of the other replica")

            # And the replica itself lets it in, and out again.
            here = Access.of(registry, token)

            def is_let_in() -> bool:
                try:
                    return here.identity().principal == "person/p-1"
                except grpc.RpcError:
                    return False

            eventually(is_let_in, "the credential is known here")
            there.revoke("p-1")
            eventually(lambda: not is_let_in(), "the revocation is known here")
            assert here.refused_identity().reason is Reason.CREDENTIAL_REVOKED
    finally:
        app.stop(1.0)


def test_those_that_ended_long_ago_are_not_said_any_more(registry: RunningRegistry) -> None:
    access = Access.of(registry)
    for number in (1, 2, 3):
        access.create(access_examples.person("141025", "VIEWER", credential_id=f"p-{number}"))
    access.revoke("p-1")
    registry.clock.moment += timedelta(days=20)
    access.revoke("p-2")
    registry.clock.moment += timedelta(days=20)
    with watching(registry) as watch:
        assert sorted(watch.credentials) == ["admin", "operator", "p-2", "p-3"]


def test_a_place_that_is_given_up_makes_everything_be_said_again(registry: RunningRegistry) -> None:
    zone = examples.division(division_code="140671", parent_code="141025", is_extra_zone=True, valid_from="2025-01-01")
    create(registry, zone)
    with watching(registry) as watch:
        assert watch.parents == {"140671": "141025"}
        zone.valid_until = "2025-02-01"
        update(registry, zone, "valid_until")
        watch.eventually(lambda: watch.parents == {}, "the place is given up")
        assert [message.is_restart for message in watch.messages if message.credentials] == [True, True]


def test_places_follow_the_day(registry: RunningRegistry) -> None:
    zone = {"division_code": "140671", "is_extra_zone": True}
    create(registry, examples.division(parent_code="141025", valid_until="2025-03-05", **zone))
    create(registry, examples.division(parent_code="141026", valid_from="2025-03-05", **zone))
    with watching(registry) as watch:
        assert watch.parents == {"140671": "141025"}
        # Midnight in China.
        registry.clock.moment = registry.clock.moment.replace(day=4, hour=16)
        watch.eventually(lambda: watch.parents == {"140671": "141026"}, "the next day's place")


def test_a_stop_of_the_registry_ends_the_watch(registry: RunningRegistry) -> None:
    with watching(registry) as watch:
        registry.stop()
        watch.eventually(lambda: watch.error is not None, "the end of the watch")
        assert watch.error is not None
        assert service_error(watch.error).reason in (Reason.SHUTTING_DOWN, Reason.SERVICE_UNAVAILABLE)
    registry.start()


def test_only_services_follow(registry: RunningRegistry) -> None:
    for token in (registry.admin_token, registry.operator_token):
        watch = Watch(registry, token)
        watch.eventually(lambda watch=watch: watch.error is not None, "the refusal")  # type: ignore[misc]  # bound now
        assert watch.error is not None
        assert service_error(watch.error).reason is Reason.PERMISSION_MISSING


def test_a_large_statement_comes_in_several_messages(
    registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = Access.of(registry)
    for number in range(5):
        access.create(access_examples.person("141025", "VIEWER", credential_id=f"p-{number}"))
    monkeypatch.setattr(access_statement, "MESSAGE_BYTES", 1)
    with watching(registry) as watch:
        first = watch.messages[: len(watch.credentials)]
        assert [message.is_restart for message in first] == [True] + [False] * 6
        assert [message.is_complete for message in first] == [False] * 6 + [True]
        assert sorted(watch.credentials) == ["admin", "operator", *(f"p-{number}" for number in range(5))]


def test_a_restored_database_makes_everything_be_said_again(registry: RunningRegistry) -> None:
    statement = AccessStatement("141025")
    engine = create_engine(registry.database_url, pool_size=2, application_name="test")

    def says_everything() -> bool:
        with reading(engine) as pooled:
            return statement.read(raw_connection(pooled), registry.clock.now())[0].is_restart

    try:
        with engine.begin() as pooled:
            query = "SELECT size, root, peaks FROM journal_logs WHERE is_own"
            head = raw_connection(pooled).execute(query).fetchone()
        create(registry, examples.platform())
        assert [says_everything(), says_everything()] == [True, False]
        # What a restored backup looks like to somebody who had heard more.
        with engine.begin() as pooled:
            command = "UPDATE journal_logs SET size = %s, root = %s, peaks = %s WHERE is_own"
            raw_connection(pooled).execute(command, head)
        assert [says_everything(), says_everything()] == [True, False]
    finally:
        engine.dispose()


@contextmanager
def following(registry: RunningRegistry, knowledge: AccessKnowledge) -> Iterator[None]:
    """Follow the registry as other services do."""

    def open_registry() -> grpc.Channel:
        bearer = (("authorization", f"Bearer {registry.service_token}"),)
        return connect(registry.address, credentials=lambda: bearer)

    follower = AccessFollower(knowledge, open_registry)
    follower.start()
    try:
        yield
    finally:
        follower.stop()


def test_a_service_that_follows_lets_in_and_out(registry: RunningRegistry) -> None:
    """The real follower of other services against the real registry."""
    create(registry, examples.source_unit())
    token = Access.of(registry).create(access_examples.terminal(credential_id="t-1")).token
    knowledge = AccessKnowledge(SystemClock().monotonic)
    control = AccessControl("141025", knowledge, None, registry.clock, stale_seconds=3600.0)

    with following(registry, knowledge):
        eventually(lambda: knowledge.is_known, "the first statement")
        metadata = [("authorization", f"Bearer {token}")]
        caller = control.caller_of_metadata(metadata)
        assert caller is not None
        assert caller.principal.name == "terminal/t-1"
        assert caller.principal.source_unit_ids == frozenset({"141025-001"})

        Access.of(registry).revoke("t-1")

        eventually(lambda: (known := knowledge.credential("t-1")) is not None and known.revoked_at is not None, "news")
        with pytest.raises(Exception, match="CREDENTIAL_REVOKED"):
            control.caller_of_metadata(metadata)


def test_a_fault_of_a_listener_does_not_end_the_following(registry: RunningRegistry) -> None:
    knowledge = AccessKnowledge(SystemClock().monotonic)
    heard: list[bool] = []

    def listen() -> None:
        heard.append(knowledge.is_known)
        if len(heard) <= 4:
            raise RuntimeError("a fault of whoever listens")

    knowledge.on_change(listen)

    with following(registry, knowledge):
        eventually(lambda: len(heard) > 4, "it goes on")
