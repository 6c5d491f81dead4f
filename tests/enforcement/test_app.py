"""The service as a platform runs it: it learns from its own registry who may do what, and says when that is away."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from services.common.access import tokens
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.common.settings import SettingsError
from services.enforcement.app import build
from services.enforcement.config import SETTINGS, EnforcementConfig
from services.journal.log_writer import LogIdentityError
from tests.conftest import Databases
from tests.enforcement.examples import notice
from tests.enforcement.harness import CITY, COUNTY, SCHEMA, RunningEnforcement, migrate
from tests.registry import access_examples, examples
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.running_service import SharedClock
from tests.waiting import wait_until
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub


def test_it_lives_with_its_registry(databases: Databases, socket_directory: Path) -> None:
    """A person whose credential the registry issues may issue; revoked, no more; a registry that is away says so."""
    with ExitStack() as running:
        registry = RunningRegistry(databases, socket_directory, CITY)
        running.callback(registry.close)
        create(registry, examples.platform(platform_code=COUNTY, upstream_code=CITY))
        database_url = databases.borrow(SCHEMA, migrate)
        running.callback(databases.give_back, SCHEMA, database_url)
        app = build(
            EnforcementConfig.load(
                {
                    **registry.environment,
                    "ZHICHAO_ENFORCEMENT_DATABASE_URL": database_url,
                    "ZHICHAO_ENFORCEMENT_LISTEN": f"unix:{socket_directory}/enforcement.sock",
                    "ZHICHAO_ENFORCEMENT_REGISTRY_ADDRESS": registry.address,
                }
            ),
            registry.clock,
        )
        app.start()
        running.callback(app.stop, 2.0)
        request = access_pb2.CreateCredentialRequest(
            credential=access_examples.person(CITY, "OFFICER", credential_id="officer-1")
        )
        token = registry.access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token
        channel = running.enter_context(connect(app.server.address, credentials=lambda: tokens.bearer(token)))
        stub = EnforcementServiceStub(channel)

        def outcome(notice_id: str) -> Reason | None:
            try:
                stub.IssueNotice(pb.IssueNoticeRequest(notice=notice(notice_id, COUNTY)), timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                return service_error(error).reason
            return None

        wait_until(lambda: outcome("n-1") is None, "the credential to be known")
        registry.stop()
        assert outcome("n-2") is Reason.SERVICE_UNAVAILABLE
        registry.start()
        wait_until(lambda: outcome("n-2") is None, "the registry to be back")
        revoke = access_pb2.RevokeCredentialRequest(credential_id="officer-1", reason="test")
        registry.access.RevokeCredential(revoke, timeout=TIMEOUT_SECONDS)
        wait_until(lambda: outcome("n-3") is Reason.CREDENTIAL_REVOKED, "the revocation to be known")


def test_it_starts_without_its_registry(databases: Databases, socket_directory: Path) -> None:
    """By what it has kept of the registry's word: who was let in before still is, and divisions lie where they lay."""
    with ExitStack() as running:
        registry = RunningRegistry(databases, socket_directory, CITY)
        running.callback(registry.close)
        create(registry, examples.division(division_code="140671", parent_code=CITY, is_extra_zone=True))
        database_url = databases.borrow(SCHEMA, migrate)
        running.callback(databases.give_back, SCHEMA, database_url)
        config = EnforcementConfig.load(
            {
                **registry.environment,
                "ZHICHAO_ENFORCEMENT_DATABASE_URL": database_url,
                "ZHICHAO_ENFORCEMENT_LISTEN": f"unix:{socket_directory}/enforcement.sock",
                "ZHICHAO_ENFORCEMENT_REGISTRY_ADDRESS": registry.address,
            }
        )
        request = access_pb2.CreateCredentialRequest(
            credential=access_examples.person(CITY, "OFFICER", credential_id="officer-1")
        )
        token = registry.access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token
        app = build(config, registry.clock)
        app.start()
        wait_until(lambda: app._access.control.knowledge.is_known, "the registry to be heard")
        app.stop(2.0)
        registry.stop()
        registry.clock.moment += timedelta(minutes=5)

        again = build(config, registry.clock)
        again.start()
        running.callback(again.stop, 2.0)
        with connect(again.server.address, credentials=lambda: tokens.bearer(token)) as channel:
            answer = EnforcementServiceStub(channel).ListNotices(pb.ListNoticesRequest(), timeout=TIMEOUT_SECONDS)

        assert list(answer.held_notices) == []
        assert again._access.control.knowledge.known_divisions().is_within("140671", CITY)


def test_what_is_below_what_must_be_known(city: RunningEnforcement) -> None:
    city.access.knowledge._heard_at = None

    # Whoever calls cannot be judged either; a service can.
    refused = city.refusal("ListNotices", pb.ListNoticesRequest())

    assert (refused.status, refused.reason) == ("UNAVAILABLE", Reason.ACCESS_UNKNOWN)


def test_a_restart_keeps_everything(city: RunningEnforcement) -> None:
    held = city.call("IssueNotice", pb.IssueNoticeRequest(notice=notice("n-1", COUNTY)))
    city.stop()
    city.start()

    assert city.call("GetNotice", pb.GetNoticeRequest(notice_id="n-1")).held_notice == held.held_notice


def test_a_database_of_another_platform_is_refused(city: RunningEnforcement, clock: SharedClock) -> None:
    city.stop()
    with pytest.raises(LogIdentityError):
        RunningEnforcement(None, city.directory, COUNTY, clock, city.registry_address, database_url=city.database_url)
    city.start()


def test_settings_have_prefixes_of_their_own() -> None:
    assert [group.model_config["env_prefix"] for group in SETTINGS] == ["ZHICHAO_", "ZHICHAO_ENFORCEMENT_"]
    with pytest.raises(SettingsError, match="ZHICHAO_ENFORCEMENT_DATABASE_URL is not set"):
        EnforcementConfig.load({"ZHICHAO_PLATFORM": CITY})
