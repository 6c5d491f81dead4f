"""Changing, rotating and revoking credentials over gRPC, and what nobody may do to their own."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from functools import partial

import pytest

from services.common.database import RawConnection, create_engine, raw_connection
from services.common.reasons import Reason
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, eventually
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.common.v1 import access_pb2
from zhichao.journal.v1 import entry_pb2

DAY_SECONDS = 86_400


@pytest.fixture
def access(registry: RunningRegistry) -> Access:
    create(registry, examples.source_unit())
    create(registry, examples.source_unit(source_unit_id="141025-002", credit_code=""))
    return Access.of(registry)


def changed(credential_id: str, **fields: object) -> pb.Credential:
    return pb.Credential(credential_id=credential_id, **fields)  # type: ignore[arg-type]  # fields by name


def ends(days: float, registry: RunningRegistry) -> pb.Credential:
    credential = pb.Credential(credential_id="c-1")
    credential.expire_time.FromDatetime(registry.clock.moment + timedelta(days=days))
    return credential


def stored(registry: RunningRegistry) -> pb.Credential:
    return pb.Credential.FromString(entry_pb2.Entry.FromString(registry.changes()[-1]).payload)


# Update


def test_named_fields_change_and_others_stay(registry: RunningRegistry, access: Access) -> None:
    issued = access.create(access_examples.integrator("141025-001", credential_id="c-1"))
    wanted = changed("c-1", source_unit_ids=["141025-002"], display_name="未点名", limits={"burst_calls": 7})

    updated = access.update(wanted, "source_unit_ids", "limits")

    assert (list(updated.source_unit_ids), updated.limits.burst_calls) == (["141025-002"], 7)
    assert stored(registry).display_name == "示例集成商"
    assert updated.create_time == issued.credential.create_time
    assert updated.etag != issued.credential.etag
    assert list(Access.of(registry, issued.token).identity().source_unit_ids) == ["141025-002"]


def test_roles_are_in_force_at_once(registry: RunningRegistry, access: Access) -> None:
    issued = access.create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    person = Access.of(registry, issued.token)
    assert access_pb2.PERMISSION_CREDENTIAL_READ not in person.identity().permissions
    assert person.refused_get("p-1").reason is Reason.PERMISSION_MISSING

    access.update(changed("p-1", roles=[pb.ROLE_AUDITOR]), "roles")

    assert access_pb2.PERMISSION_CREDENTIAL_READ in person.identity().permissions
    assert person.get("p-1").roles == [pb.ROLE_AUDITOR]


def test_a_change_of_nothing_writes_nothing(registry: RunningRegistry, access: Access) -> None:
    issued = access.create(access_examples.terminal(credential_id="c-1")).credential
    changes = registry.changes()
    assert access.update(access_examples.terminal(credential_id="c-1"), "display_name", "source_unit_ids") == issued
    assert registry.changes() == changes


def test_somebody_who_was_faster_is_noticed(registry: RunningRegistry, access: Access) -> None:
    first = access.create(access_examples.terminal(credential_id="c-1")).credential
    second = access.update(changed("c-1", display_name="西门", etag=first.etag), "display_name")
    refused = access.refused_update(changed("c-1", display_name="北门", etag=first.etag), "display_name")
    assert (refused.status, refused.reason) == ("ABORTED", Reason.ETAG_MISMATCH)
    assert refused.metadata == {"etag": second.etag}


@pytest.mark.parametrize(
    ("credential", "paths", "fields"),
    [
        (changed("c-1"), (), ["update_mask"]),
        (changed("C 1"), ("display_name",), ["credential.credential_id"]),
        (changed("c-1"), ("secrets", "kind", "*"), [f"update_mask.paths[{number}]" for number in range(3)]),
        (changed("c-1"), ("expire_time",), ["credential.expire_time"]),
        (
            changed("c-1", roles=[1]),
            ("display_name", "source_unit_ids", "roles"),
            ["credential.display_name", "credential.source_unit_ids", "credential.roles"],
        ),
    ],
)
def test_bad_updates_are_refused_whole(
    access: Access, credential: pb.Credential, paths: tuple[str, ...], fields: list[str]
) -> None:
    before = access.create(access_examples.terminal(credential_id="c-1")).credential
    assert access.refused_update(credential, *paths).fields == fields
    assert access.get("c-1") == before


def test_bindings_are_checked_like_new_ones(access: Access) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    access.create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    unknown = access.refused_update(changed("c-1", source_unit_ids=["u-9"]), "source_unit_ids")
    elsewhere = access.refused_update(changed("p-1", division_code="110000"), "division_code")
    both = access.refused_update(changed("p-1", roles=[6, 8]), "roles")
    assert [refused.reason for refused in (unknown, elsewhere, both)] == [
        Reason.REFERENCE_NOT_FOUND,
        Reason.REFERENCE_NOT_FOUND,
        Reason.ROLES_CONFLICT,
    ]
    assert access.refused_update(changed("c-9", display_name="甲"), "display_name").reason is Reason.NOT_FOUND


def test_one_that_has_ended_lives_again_when_its_end_is_moved(registry: RunningRegistry, access: Access) -> None:
    token = access.create(access_examples.terminal(credential_id="c-1")).token
    access.update(ends(1, registry), "expire_time")
    registry.clock.moment += timedelta(days=2)
    terminal = Access.of(registry, token)
    assert terminal.refused_identity().reason is Reason.CREDENTIAL_EXPIRED

    access.update(ends(90, registry), "expire_time")

    assert terminal.identity().principal == "terminal/c-1"


def test_the_end_of_a_secret_has_a_bound_of_its_own(registry: RunningRegistry, access: Access) -> None:
    token = access.create(access_examples.terminal(credential_id="c-1")).token
    registry.clock.moment += timedelta(days=300)
    access.update(ends(700, registry), "expire_time")
    kept = stored(registry)
    assert kept.secrets[0].expire_time.seconds - kept.secrets[0].create_time.seconds == 731 * DAY_SECONDS
    assert Access.of(registry, token).identity().expire_time == kept.expire_time


# Rotate


def test_both_tokens_work_until_the_overlap_is_over(registry: RunningRegistry, access: Access) -> None:
    former = access.create(access_examples.terminal(credential_id="c-1")).token
    rotated = access.rotate("c-1")
    left = rotated.former_expire_time.ToDatetime(tzinfo=UTC) - registry.clock.moment
    assert timedelta(days=7) - timedelta(minutes=1) < left <= timedelta(days=7)
    for token in (former, rotated.token):
        assert Access.of(registry, token).identity().principal == "terminal/c-1"

    registry.clock.moment += timedelta(days=8)

    assert Access.of(registry, former).refused_identity().reason is Reason.CREDENTIAL_EXPIRED
    assert Access.of(registry, rotated.token).identity().principal == "terminal/c-1"


def test_a_rotation_during_an_overlap_ends_the_oldest_token(registry: RunningRegistry, access: Access) -> None:
    first = access.create(access_examples.terminal(credential_id="c-1")).token
    second, third = access.rotate("c-1").token, access.rotate("c-1").token
    assert Access.of(registry, first).refused_identity().reason is Reason.INVALID_CREDENTIALS
    for token in (second, third):
        assert Access.of(registry, token).identity().principal == "terminal/c-1"


def test_a_leaked_token_ends_at_once_without_overlap(registry: RunningRegistry, access: Access) -> None:
    leaked = access.create(access_examples.terminal(credential_id="c-1")).token
    rotated = access.rotate("c-1", overlap_seconds=0)
    assert Access.of(registry, leaked).refused_identity().reason is Reason.INVALID_CREDENTIALS
    assert Access.of(registry, rotated.token).identity().principal == "terminal/c-1"


@pytest.mark.parametrize("seconds", [-1, 30 * DAY_SECONDS + 1, 2**62])
def test_bad_overlaps_are_refused(access: Access, seconds: int) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    assert access.refused_rotate("c-1", seconds).fields == ["overlap"]


def test_what_cannot_be_rotated(registry: RunningRegistry, access: Access) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    access.update(ends(1, registry), "expire_time")
    access.create(access_examples.terminal(credential_id="c-2"))
    access.revoke("c-2")
    access.create(access_examples.terminal(credential_id="c-3"), is_certificate_only=True)
    registry.clock.moment += timedelta(days=2)
    assert access.refused_rotate("c-1").reason is Reason.CREDENTIAL_ENDED
    assert access.refused_rotate("c-2").reason is Reason.CREDENTIAL_ENDED
    assert access.refused_rotate("c-3").fields == ["credential_id"]
    assert access.refused_rotate("c-4").reason is Reason.NOT_FOUND
    assert access.refused_rotate("").fields == ["credential_id"]


# Revoke


def test_a_revoked_token_is_refused_at_once_here(registry: RunningRegistry, access: Access) -> None:
    token = access.create(access_examples.terminal(credential_id="c-1")).token

    revoked = access.revoke("c-1", "终端遗失")

    refused = Access.of(registry, token).refused_identity()
    assert (refused.status, refused.reason) == ("UNAUTHENTICATED", Reason.CREDENTIAL_REVOKED)
    assert revoked.credential.revoke_reason == "终端遗失"
    assert revoked.effective_time.seconds - revoked.credential.revoke_time.seconds == 10
    assert entry_pb2.Entry.FromString(registry.changes()[-1]).actor == "person/admin"


def test_revoking_again_changes_nothing(registry: RunningRegistry, access: Access) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    first = access.revoke("c-1", "遗失")
    changes = registry.changes()
    assert access.revoke("c-1", "又一次") == first
    assert registry.changes() == changes


def test_what_is_revoked_stays_so(access: Access) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    access.revoke("c-1")
    refused = access.refused_update(changed("c-1", display_name="甲"), "display_name")
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.CREDENTIAL_ENDED)


def test_a_revocation_names_what_and_why(access: Access) -> None:
    assert access.refused_revoke("", "").fields == ["credential_id", "reason"]
    assert access.refused_revoke("c-9").reason is Reason.NOT_FOUND


# Their own


def test_nobody_gives_themselves_roles_or_time(registry: RunningRegistry, access: Access) -> None:
    credential = ends(700, registry)
    credential.credential_id = "admin"
    for wanted, field in [
        (changed("admin", roles=[pb.ROLE_SECURITY_ADMINISTRATOR, pb.ROLE_OFFICER]), "roles"),
        (changed("admin", limits={"calls_per_second": 9_999}), "limits"),
        (credential, "expire_time"),
    ]:
        refused = access.refused_update(wanted, field)
        assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.OWN_CREDENTIAL)
        assert refused.metadata == {"credential_id": "admin", "field": field}


def test_a_name_and_a_token_of_their_own_may_be_changed(registry: RunningRegistry, access: Access) -> None:
    access.update(changed("admin", display_name="示例乙"), "display_name")
    assert Access.of(registry, access.rotate("admin").token).identity().principal == "person/admin"


def test_another_administrator_may_do_it(registry: RunningRegistry, access: Access) -> None:
    other = access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="admin-2"))
    wanted = changed("admin", roles=[pb.ROLE_VIEWER])
    updated = Access.of(registry, other.token).update(wanted, "roles")
    assert list(updated.roles) == [pb.ROLE_VIEWER]
    assert access.refused_revoke("admin-2").reason is Reason.PERMISSION_MISSING


# The last one


def test_the_last_security_administrator_stays(registry: RunningRegistry, access: Access) -> None:
    refused = access.refused_revoke("admin")
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.LAST_ADMINISTRATOR)
    assert refused.metadata == {"credential_id": "admin"}

    # One for a part of the platform cannot take the place.
    create(registry, examples.division(division_code="140671", parent_code="141025", is_extra_zone=True))
    access.create(access_examples.person("140671", "SECURITY_ADMINISTRATOR", credential_id="zone"))
    assert access.refused_revoke("admin").reason is Reason.LAST_ADMINISTRATOR

    access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="admin-2"))
    assert access.revoke("admin").credential.HasField("revoke_time")


def test_of_two_who_revoke_each_other_one_stays(registry: RunningRegistry, access: Access) -> None:
    token = access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="admin-2")).token
    other = Access.of(registry, token)

    def outcome(caller: Access, credential_id: str) -> str:
        try:
            caller.revoke(credential_id)
        except Exception:  # noqa: BLE001 - whichever refusal comes first
            return "refused"
        return "revoked"

    with ThreadPoolExecutor(2) as executor:
        calls = [partial(outcome, access, "admin-2"), partial(outcome, other, "admin")]
        outcomes = [future.result(TIMEOUT_SECONDS) for future in [executor.submit(call) for call in calls]]

    assert sorted(outcomes) == ["refused", "revoked"]
    survivor = access if outcomes[0] == "revoked" else other
    assert survivor.ids(role=pb.ROLE_SECURITY_ADMINISTRATOR) in (["admin"], ["admin-2"])


def test_an_administrator_who_is_revoked_meanwhile_changes_nothing(registry: RunningRegistry, access: Access) -> None:
    """A call that was let in and waits for the log while its caller is revoked."""
    token = access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="admin-2")).token
    other = Access.of(registry, token)
    engine = create_engine(registry.database_url, pool_size=2, application_name="test")
    try:
        with ThreadPoolExecutor(1) as executor, engine.begin() as pooled:
            connection = raw_connection(pooled)
            connection.execute("SELECT FROM journal_logs WHERE is_own FOR UPDATE")
            waiting = executor.submit(other.refused_create, access_examples.person("141025", "VIEWER"))
            eventually(lambda: is_waiting_for_the_log(connection), "the call waits for the log")
            # What another replica commits in that moment.
            connection.execute(
                "UPDATE credentials SET revoke_time = now(), content = %s WHERE credential_id = 'admin-2'",
                (revoked_content(connection, "admin-2"),),
            )
            pooled.commit()
            refused = waiting.result(TIMEOUT_SECONDS)
    finally:
        engine.dispose()
    assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)


def is_waiting_for_the_log(connection: RawConnection) -> bool:
    row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return row is not None and row[0] > 0


def revoked_content(connection: RawConnection, credential_id: str) -> bytes:
    query = "SELECT content FROM credentials WHERE credential_id = %s"
    ((content,),) = connection.execute(query, (credential_id,)).fetchall()
    message = pb.Credential.FromString(content)
    message.revoke_time.seconds = 1
    return message.SerializeToString()
