"""Rules of credentials: what is refused, when one is usable, and what becomes of secrets."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.access.permissions import EXCLUSIVE_ROLES, Role
from services.registry import credentials
from services.registry.credentials import (
    LIFETIME_MAX,
    OVERLAP_MAX,
    ROLE_NUMBERS,
    ROLES,
    Credential,
    CredentialKind,
    Limits,
    Secret,
)
from zhichao.access.v1 import credential_pb2 as pb

NOW = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECURITY = ROLE_NUMBERS[Role.SECURITY_ADMINISTRATOR]


def terminal(**fields: Any) -> Credential:
    values: dict[str, Any] = {
        "credential_id": "141025-001-t1",
        "kind": CredentialKind.TERMINAL,
        "display_name": "东门终端",
        "source_unit_ids": ("141025-001",),
        "division_code": "",
        "roles": (),
        "limits": Limits(),
        "expire_time": NOW + 365 * DAY,
    }
    return Credential(**values | fields)


def person(**fields: Any) -> Credential:
    values: dict[str, Any] = {
        "credential_id": "person-1",
        "kind": CredentialKind.PERSON,
        "display_name": "示例甲",
        "source_unit_ids": (),
        "division_code": "141025",
        "roles": (SECURITY,),
    }
    return terminal(**values | fields)


def secret(made: datetime, ends: datetime, name: str = "a") -> Secret:
    return Secret(name.encode(), made, ends)


def refused(credential: Credential) -> list[str]:
    return [violation.field for violation in credential.violations()]


def test_kinds_and_roles_are_those_of_the_contract() -> None:
    assert {f"PRINCIPAL_KIND_{kind.name}": kind.value for kind in CredentialKind} == {
        name: number for name, number in pb.PrincipalKind.items() if 1 <= number <= 3
    }
    assert {f"ROLE_{role}": number for number, role in ROLES.items()} == {
        name: number for name, number in pb.Role.items() if number
    }


@pytest.mark.parametrize("kind", [0, 4, 5, 6, -1])
def test_platforms_and_services_get_no_credentials(kind: int) -> None:
    assert refused(terminal(kind=kind)) == ["kind"]


@pytest.mark.parametrize("credential_id", ["", "A", "a b", "a_b", "ä", "a" * 65, "a\n", "bootstrap", "１"])
def test_ids_are_small_letters_digits_and_dashes(credential_id: str) -> None:
    assert refused(terminal(credential_id=credential_id)) == ["credential_id"]


@pytest.mark.parametrize("name", ["", "秘密*", "秘密\n甲", "秘密" * 33, " 秘密"])
def test_bad_names_are_refused_and_not_repeated(name: str) -> None:
    (violation,) = person(display_name=name).violations()
    assert violation.field == "display_name"
    assert "秘密" not in violation.description


@pytest.mark.parametrize("units", [(), ("u-1", "u-2")])
def test_a_terminal_has_exactly_one_unit(units: tuple[str, ...]) -> None:
    assert refused(terminal(source_unit_ids=units)) == ["source_unit_ids"]


def test_an_integrator_has_one_to_a_thousand_units() -> None:
    integrator = terminal(kind=CredentialKind.INTEGRATOR)
    units = tuple(f"u-{number}" for number in range(1_001))
    assert refused(replace(integrator, source_unit_ids=units[:1_000])) == []
    assert refused(replace(integrator, source_unit_ids=units)) == ["source_unit_ids"]
    assert refused(replace(integrator, source_unit_ids=())) == ["source_unit_ids"]
    assert refused(replace(integrator, source_unit_ids=("u-1", "u 2", "u-1"))) == [
        "source_unit_ids[1]",
        "source_unit_ids[2]",
    ]


def test_a_terminal_has_no_division_and_no_roles() -> None:
    assert refused(terminal(division_code="141025", roles=(1,))) == ["division_code", "roles"]


def test_a_person_has_a_division_and_a_role_and_no_units() -> None:
    assert refused(person()) == []
    assert refused(person(source_unit_ids=("u-1",), division_code="", roles=())) == [
        "source_unit_ids",
        "division_code",
        "roles",
    ]


def test_roles_are_known_and_named_once() -> None:
    assert refused(person(roles=(1, 9, 1, 0))) == ["roles[1]", "roles[2]", "roles[3]"]
    assert refused(person(roles=(1,) * 100_000)) == ["roles"]


def test_every_limit_has_a_bound() -> None:
    assert refused(terminal(limits=Limits(10_000, 100_000, 1 << 30))) == []
    assert refused(terminal(limits=Limits(10_001, -1, (1 << 30) + 1))) == [
        "limits.calls_per_second",
        "limits.burst_calls",
        "limits.bytes_per_second",
    ]


@pytest.mark.parametrize("first", sorted(EXCLUSIVE_ROLES))
@pytest.mark.parametrize("second", Role)
def test_two_administrators_exclude_each_other(first: Role, second: Role) -> None:
    credential = person(roles=(ROLE_NUMBERS[first], ROLE_NUMBERS[second]))
    expected = {first, second} if second in EXCLUSIVE_ROLES and second is not first else set()
    # The same role twice is refused for another reason.
    assert second is first or set(credential.excluding_roles) == expected


@pytest.mark.parametrize(
    ("ends", "is_refused"),
    [
        (NOW, True),
        (NOW - DAY, True),
        (NOW + timedelta(seconds=1), False),
        (NOW + LIFETIME_MAX, False),
        (NOW + LIFETIME_MAX + timedelta(seconds=1), True),
    ],
)
def test_the_end_lies_in_the_future_and_not_too_far(ends: datetime, is_refused: bool) -> None:
    assert bool(credentials.end_violations(ends, NOW)) == is_refused


def test_one_is_usable_until_it_or_its_last_secret_ends_or_it_is_revoked() -> None:
    ends = NOW + 10 * DAY
    held = terminal(expire_time=ends, secrets=(secret(NOW, NOW + DAY), secret(NOW, NOW + 2 * DAY)))
    assert held.is_usable(NOW + 2 * DAY - timedelta(seconds=1))
    assert not held.is_usable(NOW + 2 * DAY)
    assert not held.has_ended(NOW + 2 * DAY)
    assert not replace(held, revoke_time=NOW).is_usable(NOW)
    by_certificate = replace(held, secrets=())
    assert by_certificate.is_usable(ends - timedelta(seconds=1))
    assert not by_certificate.is_usable(ends)


def test_who_is_a_security_administrator_of_the_platform() -> None:
    held = person()
    assert held.is_administrator_of("141025", NOW)
    assert not held.is_administrator_of("141000", NOW)
    assert not replace(held, division_code="140671").is_administrator_of("141025", NOW)
    assert not replace(held, roles=(1,)).is_administrator_of("141025", NOW)
    assert not replace(held, revoke_time=NOW).is_administrator_of("141025", NOW)
    assert not held.is_administrator_of("141025", held.expire_time)


def test_a_rotation_keeps_the_former_secret_for_the_overlap() -> None:
    first = secret(NOW, NOW + 365 * DAY)
    held = terminal(secrets=(first,))
    later = NOW + 100 * DAY

    rotated = credentials.rotated(held, b"b", later, 7 * DAY)

    assert rotated == (replace(first, expire_time=later + 7 * DAY), Secret(b"b", later, held.expire_time))


def test_a_rotation_during_an_overlap_ends_the_older_secret() -> None:
    held = terminal(secrets=(secret(NOW, NOW + 9 * DAY, "a"), secret(NOW + DAY, NOW + 365 * DAY, "b")))
    rotated = credentials.rotated(held, b"c", NOW + 2 * DAY, 7 * DAY)
    assert [one.digest for one in rotated] == [b"b", b"c"]


def test_a_rotation_without_overlap_ends_the_former_at_once() -> None:
    rotated = credentials.rotated(terminal(secrets=(secret(NOW, NOW + DAY),)), b"b", NOW, timedelta())
    assert [one.digest for one in rotated] == [b"b"]


def test_moving_the_end_moves_the_newest_secret_only() -> None:
    former, newest = secret(NOW, NOW + 7 * DAY, "a"), secret(NOW + DAY, NOW + 100 * DAY, "b")
    assert credentials.ended_with((former, newest), NOW + 400 * DAY) == (
        former,
        replace(newest, expire_time=NOW + 400 * DAY),
    )
    assert credentials.ended_with((former, newest), NOW + 2 * DAY) == (
        replace(former, expire_time=NOW + 2 * DAY),
        replace(newest, expire_time=NOW + 2 * DAY),
    )


days = st.integers(0, LIFETIME_MAX.days)


@given(st.lists(st.tuples(days, st.integers(0, OVERLAP_MAX.days), st.integers(1, LIFETIME_MAX.days)), max_size=12))
def test_whatever_is_done_two_secrets_are_valid_at_most_and_none_outlives_its_bounds(
    history: list[tuple[int, int, int]],
) -> None:
    """Rotations and moved ends in any order, with any time between them."""
    now = NOW
    held = terminal(secrets=(credentials.first_secret(b"0", now, NOW + 365 * DAY),))
    for number, (wait_days, overlap_days, life_days) in enumerate(history, 1):
        now += wait_days * DAY
        ends = now + life_days * DAY
        held = replace(held, expire_time=ends, secrets=credentials.ended_with(held.secrets, ends))
        held = replace(held, secrets=credentials.rotated(held, b"%d" % number, now, overlap_days * DAY))
        valid = [one for one in held.secrets if one.expire_time > now]
        assert 1 <= len(valid) <= 2
        assert held.secrets[-1].digest == b"%d" % number
        for one in held.secrets:
            assert one.expire_time <= min(held.expire_time, one.create_time + LIFETIME_MAX)
        for former in held.secrets[:-1]:
            assert former.expire_time <= now + overlap_days * DAY


@pytest.mark.parametrize(
    ("overlap", "is_refused"),
    [(timedelta(), False), (OVERLAP_MAX, False), (OVERLAP_MAX + DAY, True), (-timedelta(seconds=1), True)],
)
def test_overlaps_are_none_to_thirty_days(overlap: timedelta, is_refused: bool) -> None:
    assert bool(credentials.overlap_violation(overlap)) == is_refused


@pytest.mark.parametrize("reason", ["", "a" * 257, "a\nb"])
def test_a_revocation_says_why(reason: str) -> None:
    assert credentials.reason_violation(reason)
    assert not credentials.reason_violation("终端遗失")
