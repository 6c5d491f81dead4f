"""The way back when the tokens of all security administrators are lost: beside a registry that runs, by its database
and the platform's key, and never without a trace.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from services.common.database import SchemaError
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.settings import PlatformSettings, SettingsError, load
from services.journal.log_writer import LogIdentityError
from services.journal.notes import new_private_key_pem
from services.registry.lost_administrators import ACTOR, COMMAND, AdministratorsChangedError, LostAdministrators
from tests.registry import access_examples
from tests.registry.access_calls import Access
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, eventually
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.journal.v1 import access_record_pb2, entry_pb2
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

WHY = "三个令牌随旧笔记本遗失"


@pytest.fixture
def lost(registry: RunningRegistry) -> Iterator[LostAdministrators]:
    """Return what somebody with database and key can do, at the registry's time of day."""
    settings = load(PlatformSettings, registry.environment)
    made = LostAdministrators.of(settings, registry.database_url, registry.clock)
    yield made
    made.close()


def bootstrap(registry: RunningRegistry) -> Access:
    return Access.of(registry, registry.bootstrap_token)


def is_let_in(access: Access) -> bool:
    try:
        access.identity()
    except grpc.RpcError:
        return False
    return True


def revoke_all(lost: LostAdministrators, reason: str = WHY) -> list[str]:
    ids = [one.credential_id for one in lost.found()]
    return [one.credential_id for one in lost.revoke(ids, reason)]


def test_they_are_revoked_and_the_bootstrap_token_opens_again(
    registry: RunningRegistry, lost: LostAdministrators
) -> None:
    """Beside the running registry, which notices by itself."""
    Access.of(registry).create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="second"))
    assert bootstrap(registry).refused_identity().reason is Reason.CREDENTIAL_REVOKED

    assert revoke_all(lost) == ["admin", "second"]

    eventually(lambda: is_let_in(bootstrap(registry)), "the bootstrap token is accepted")
    eventually(lambda: not is_let_in(Access.of(registry)), "the revocation is in force")
    assert Access.of(registry).refused_identity().reason is Reason.CREDENTIAL_REVOKED
    # The others keep what they have.
    assert Access.of(registry, registry.operator_token).identity().principal == "person/operator"
    new = bootstrap(registry).create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="third"))
    assert Access.of(registry, new.token).get("admin").revoke_reason == WHY
    assert bootstrap(registry).refused_identity().reason is Reason.CREDENTIAL_REVOKED


def test_the_journal_says_it(registry: RunningRegistry, lost: LostAdministrators) -> None:
    size = registry.size()
    revoke_all(lost)

    entries = [entry_pb2.Entry.FromString(entry) for entry in registry.entries(size + 1)]
    credential = pb.Credential.FromString(entries[0].payload)
    assert [(entry.kind, entry.actor) for entry in entries] == [
        (pb.Credential.DESCRIPTOR.full_name, ACTOR),
        (access_record_pb2.AccessRecord.DESCRIPTOR.full_name, ACTOR),
    ]
    assert (credential.credential_id, credential.revoke_reason) == ("admin", WHY)
    assert credential.HasField("revoke_time")
    # Who it was stays in the journal: an auditor reads it there.
    assert credential.display_name


def test_an_auditor_and_the_platform_above_see_it(
    registry: RunningRegistry, city: RunningRegistry, lost: LostAdministrators
) -> None:
    auditor = registry._issue(registry.access, "auditor", "AUDITOR")
    revoke_all(lost)
    city.receive(registry.batches())
    above = city._issue(city.access, "auditor", "AUDITOR")

    for running, token in ((registry, auditor), (city, above)):
        stub = AccessRecordServiceStub(running.channel(token))
        request = access_record_pb2.ListAccessRecordsRequest(principal=ACTOR)
        (held,) = stub.ListAccessRecords(request, timeout=TIMEOUT_SECONDS).access_records
        assert held.origin == registry.platform
        assert (held.record.method, held.record.purpose) == (COMMAND, WHY)
        assert list(held.record.subjects) == ["credential_id=admin"]


def test_it_is_said_loudly(registry: RunningRegistry, lost: LostAdministrators) -> None:
    with capture_logs() as logs:
        revoke_all(lost)
        eventually(lambda: is_let_in(bootstrap(registry)), "the bootstrap token is accepted")
    said = {event["event"]: event for event in logs if event["log_level"] == "warning"}
    assert said["administrators_revoked"]["credential_ids"] == ["admin"]
    assert said["administrators_revoked"]["reason"] == WHY
    assert "bootstrap_token_accepted" in said


def test_it_works_without_the_registry(registry: RunningRegistry, lost: LostAdministrators) -> None:
    registry.stop()
    assert revoke_all(lost) == ["admin"]
    registry.start()
    assert is_let_in(bootstrap(registry))


def test_no_names_and_no_secrets_are_shown(lost: LostAdministrators) -> None:
    for shown in (lost.found(), lost.revoke(["admin"], WHY)):
        assert [(one.credential_id, one.display_name, len(one.secrets)) for one in shown] == [("admin", "", 0)]


def test_only_those_of_the_whole_platform_are_meant(registry: RunningRegistry, lost: LostAdministrators) -> None:
    access = Access.of(registry)
    access.create(access_examples.person("141025", "SYSTEM_ADMINISTRATOR", credential_id="system"))
    access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="gone"))
    access.revoke("gone", "离职")
    revoke_all(lost)
    eventually(lambda: is_let_in(bootstrap(registry)), "the bootstrap token is accepted")
    bootstrap(registry).create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="new"))
    assert [one.credential_id for one in lost.found()] == ["new"]


def test_without_any_nothing_is_written(registry: RunningRegistry, lost: LostAdministrators) -> None:
    revoke_all(lost)
    size = registry.size()
    assert revoke_all(lost) == []
    assert registry.size() == size


def test_whoever_was_appointed_meanwhile_stays(registry: RunningRegistry, lost: LostAdministrators) -> None:
    found = [one.credential_id for one in lost.found()]
    Access.of(registry).create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="second"))
    size = registry.size()
    with pytest.raises(AdministratorsChangedError):
        lost.revoke(found, WHY)
    assert registry.size() == size


def test_a_reason_is_asked_for(registry: RunningRegistry, lost: LostAdministrators) -> None:
    size = registry.size()
    for reason in ("", " ", "x" * 257, "a\nb"):
        with pytest.raises(ServiceError) as raised:
            lost.revoke(["admin"], reason)
        assert [one.field for one in raised.value.field_violations] == ["reason"]
    assert registry.size() == size


def test_another_key_or_database_is_refused(
    registry: RunningRegistry, city: RunningRegistry, database_url: str, tmp_path: Path
) -> None:
    settings = load(PlatformSettings, registry.environment)
    other = LostAdministrators.of(settings, city.database_url, registry.clock)
    with pytest.raises(LogIdentityError, match="141000"):
        other.found()
    other.close()
    forged = tmp_path / "forged.pem"
    forged.write_bytes(new_private_key_pem())
    stranger = load(PlatformSettings, registry.environment | {"ZHICHAO_SIGNING_KEY_FILE": str(forged)})
    other = LostAdministrators.of(stranger, registry.database_url, registry.clock)
    with pytest.raises(LogIdentityError, match="signing key"):
        other.revoke(["admin"], WHY)
    other.close()
    with pytest.raises(SchemaError):
        LostAdministrators.of(settings, database_url)
    keyless = {name: value for name, value in registry.environment.items() if name != "ZHICHAO_SIGNING_KEY_FILE"}
    with pytest.raises(SettingsError, match="ZHICHAO_SIGNING_KEY_FILE"):
        LostAdministrators.of(load(PlatformSettings, keyless), registry.database_url)
    assert is_let_in(Access.of(registry))


def test_a_restored_log_is_not_written_to(registry: RunningRegistry, lost: LostAdministrators) -> None:
    registry.stop()
    registry.environment["ZHICHAO_RECOVERING"] = "true"
    registry.start()
    with pytest.raises(ServiceError) as raised:
        lost.revoke([one.credential_id for one in lost.found()], WHY)
    assert raised.value.reason is Reason.RECOVERING


def test_those_who_have_ended_are_none(registry: RunningRegistry, lost: LostAdministrators) -> None:
    registry.clock.moment += timedelta(days=400)
    assert lost.found() == []
