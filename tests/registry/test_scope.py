"""Callers that are bound to units or to a division: what they see and change of the registry and of credentials."""

from typing import Any

import grpc
import pytest

from services.common.reasons import Reason
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create, noun, update
from tests.registry.harness import TIMEOUT_SECONDS, Refused, RunningRegistry, refused_by
from zhichao.access.v1 import credential_pb2
from zhichao.registry.v1 import resources_pb2 as pb
from zhichao.registry.v1 import service_pb2
from zhichao.registry.v1.service_pb2_grpc import RegistryServiceStub

COUNTY, NEIGHBOUR = "141025", "141026"


class Caller:
    """Somebody who calls RegistryService with a credential of their own."""

    def __init__(self, registry: RunningRegistry, credential: credential_pb2.Credential) -> None:
        self.token = Access.of(registry).create(credential).token
        self.stub = RegistryServiceStub(registry.channel(self.token))

    def call(self, method: str, **fields: Any) -> Any:
        return getattr(self.stub, method)(_request(method, fields), timeout=TIMEOUT_SECONDS)

    def refused(self, method: str, **fields: Any) -> Refused:
        return refused_by(self.stub, method, _request(method, fields))

    def listed(self, resource: Any, **fields: Any) -> list[tuple[str, str]]:
        """Return owner and unit of what a list of this kind shows, over small pages."""
        found: list[tuple[str, str]] = []
        token = ""
        while True:
            answer = self.call(f"List{noun(resource)}s", page_size=2, page_token=token, **fields)
            (field,) = [name for name in answer.DESCRIPTOR.fields_by_name if name != "next_page_token"]
            found += [(one.info.origin, one.source_unit_id) for one in getattr(answer, field)]
            token = answer.next_page_token
            if not token:
                return found


def _request(method: str, fields: dict[str, Any]) -> Any:
    request = getattr(service_pb2, f"{method}Request")()
    paths = fields.pop("paths", ())
    for name, value in fields.items():
        if hasattr(value, "DESCRIPTOR"):
            getattr(request, name).CopyFrom(value)
        else:
            setattr(request, name, value)
    if paths:
        request.update_mask.paths.extend(paths)
    return request


def fill(registry: RunningRegistry, unit_id: str, division_code: str) -> None:
    """Register a unit with a point, a scale and a certificate."""
    create(registry, examples.source_unit(source_unit_id=unit_id, division_code=division_code, credit_code=""))
    for resource in (examples.weighing_point(), examples.scale(), examples.verification_certificate()):
        resource.source_unit_id = unit_id
        create(registry, resource)


@pytest.fixture
def filled(city: RunningRegistry, registry: RunningRegistry) -> RunningRegistry:
    """Return the city's registry with a unit of its own in each of two counties, and the copies of one county."""
    fill(registry, "u-1", COUNTY)
    fill(registry, "u-county", COUNTY)
    city.receive(registry.batches())
    fill(city, "u-1", COUNTY)
    fill(city, "u-2", NEIGHBOUR)
    return city


@pytest.fixture
def registrar(filled: RunningRegistry) -> Caller:
    """Return a registrar of the one county, at the city."""
    return Caller(filled, access_examples.person(COUNTY, "REGISTRAR", credential_id="registrar"))


@pytest.fixture
def terminal(filled: RunningRegistry) -> Caller:
    """Return the terminal of unit u-1 of the city."""
    return Caller(filled, access_examples.terminal("u-1", credential_id="terminal"))


OF_UNITS = [pb.SourceUnit(), pb.WeighingPoint(), pb.Scale(), pb.VerificationCertificate()]


@pytest.mark.parametrize("resource", OF_UNITS, ids=noun)
def test_a_list_holds_what_lies_in_the_division(registrar: Caller, resource: Any) -> None:
    assert registrar.listed(resource) == [("141000", "u-1"), (COUNTY, "u-1"), (COUNTY, "u-county")]


@pytest.mark.parametrize("resource", OF_UNITS[1:], ids=noun)
def test_a_list_for_a_terminal_holds_its_unit_and_no_namesake(terminal: Caller, resource: Any) -> None:
    assert terminal.listed(resource, source_unit_id="u-1") == [("141000", "u-1")]
    assert terminal.listed(resource, source_unit_id="u-1", origin=COUNTY) == []
    assert terminal.listed(resource) == [("141000", "u-1")]


def test_a_terminal_lists_its_own_unit_only(terminal: Caller) -> None:
    assert terminal.listed(pb.SourceUnit()) == [("141000", "u-1")]


def test_a_person_of_the_platform_sees_everything(filled: RunningRegistry) -> None:
    everybody = Caller(filled, access_examples.person("141000", "VIEWER"))
    assert len(everybody.listed(pb.SourceUnit())) == 4


def test_one_is_got_from_within_and_refused_from_outside(registrar: Caller, terminal: Caller) -> None:
    assert registrar.call("GetSourceUnit", source_unit_id="u-1").source_unit.info.origin == "141000"
    assert registrar.call("GetScale", source_unit_id="u-county", scale_id="scale-1").scale.info.origin == COUNTY
    for caller, unit in ((registrar, "u-2"), (terminal, "u-2"), (terminal, "u-county")):
        for refused in (
            caller.refused("GetSourceUnit", source_unit_id=unit),
            caller.refused("GetScale", source_unit_id=unit, scale_id="scale-1"),
        ):
            assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
    refused = terminal.refused("GetSourceUnit", source_unit_id="u-1", origin=COUNTY)
    assert refused.reason is Reason.OUTSIDE_SCOPE


def test_units_are_created_within_the_division_only(registrar: Caller) -> None:
    inside = examples.source_unit(source_unit_id="u-3", division_code=COUNTY)
    assert registrar.call("CreateSourceUnit", source_unit=inside).source_unit.source_unit_id == "u-3"
    outside = examples.source_unit(source_unit_id="u-4", division_code=NEIGHBOUR)
    refused = registrar.refused("CreateSourceUnit", source_unit=outside)
    assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "source_unit.division_code"})


def test_what_belongs_to_a_unit_is_written_within_the_division_only(registrar: Caller) -> None:
    for unit, is_inside in (("u-1", True), ("u-2", False)):
        point = examples.weighing_point(source_unit_id=unit, weighing_point_id="gate-2")
        scale = examples.scale(source_unit_id=unit, model="")
        certificate = examples.verification_certificate(source_unit_id=unit, issuer="")
        calls: list[tuple[str, dict[str, Any]]] = [
            ("CreateWeighingPoint", {"weighing_point": point}),
            ("UpdateScale", {"scale": scale, "paths": ["model"]}),
            ("UpdateVerificationCertificate", {"verification_certificate": certificate, "paths": ["issuer"]}),
        ]
        for method, fields in calls:
            if is_inside:
                registrar.call(method, **fields)
            else:
                assert registrar.refused(method, **fields).reason is Reason.OUTSIDE_SCOPE


def test_a_unit_moves_neither_out_nor_in(filled: RunningRegistry, registrar: Caller) -> None:
    before = filled.size()
    out = pb.SourceUnit(source_unit_id="u-1", division_code=NEIGHBOUR)
    refused = registrar.refused("UpdateSourceUnit", source_unit=out, paths=["division_code"])
    assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "source_unit.division_code"})
    # Naming the own division in the request does not make another's unit one's own.
    foreign = pb.SourceUnit(source_unit_id="u-2", division_code=COUNTY, name="新名")
    for paths in (["name"], ["division_code"], ["name", "division_code"]):
        refused = registrar.refused("UpdateSourceUnit", source_unit=foreign, paths=paths)
        assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "source_unit.source_unit_id"})
    assert filled.size() == before
    renamed = pb.SourceUnit(source_unit_id="u-1", name="新名")
    assert registrar.call("UpdateSourceUnit", source_unit=renamed, paths=["name"]).source_unit.name == "新名"


@pytest.mark.parametrize(
    ("field", "code", "is_taken"),
    [
        ("data_home_code", "141000", True),
        ("enforcement_code", "140000", True),
        ("data_home_code", COUNTY, True),
        ("data_home_code", NEIGHBOUR, False),
        ("enforcement_code", "141100", False),
    ],
)
def test_other_divisions_are_named_above_or_within(registrar: Caller, field: str, code: str, is_taken: bool) -> None:
    unit = pb.SourceUnit(**{"source_unit_id": "u-1", field: code})  # type: ignore[arg-type]  # fields by name
    if is_taken:
        assert getattr(registrar.call("UpdateSourceUnit", source_unit=unit, paths=[field]).source_unit, field) == code
    else:
        refused = registrar.refused("UpdateSourceUnit", source_unit=unit, paths=[field])
        assert refused.metadata == {"field": f"source_unit.{field}"}


def test_what_somebody_above_has_named_stays(filled: RunningRegistry, registrar: Caller) -> None:
    unit = pb.SourceUnit(source_unit_id="u-1", enforcement_code=NEIGHBOUR)
    update(filled, unit, "enforcement_code")
    renamed = pb.SourceUnit(source_unit_id="u-1", name="新名")
    updated = registrar.call("UpdateSourceUnit", source_unit=renamed, paths=["name"]).source_unit
    assert (updated.name, updated.enforcement_code) == ("新名", NEIGHBOUR)


def test_divisions_platforms_and_rule_sets_are_read_by_all_and_written_by_none(filled: RunningRegistry) -> None:
    bound = Caller(filled, access_examples.person(COUNTY, "SYSTEM_ADMINISTRATOR", "STANDARDS_OFFICER"))
    create(filled, examples.platform())
    assert bound.call("GetPlatform", platform_code=COUNTY).platform.platform_code == COUNTY
    assert bound.call("ListRuleSets").rule_sets
    writes: list[tuple[str, dict[str, Any]]] = [
        ("CreatePlatform", {"platform": examples.platform()}),
        ("CreateDivision", {"division": examples.division()}),
        ("CreateRuleSet", {"rule_set": examples.rule_set()}),
    ]
    for method, fields in writes:
        assert bound.refused(method, **fields).reason is Reason.OUTSIDE_SCOPE


def test_a_zone_is_within_once_the_platform_has_placed_it(filled: RunningRegistry, registrar: Caller) -> None:
    fill(filled, "u-zone", "140671")
    assert registrar.refused("GetSourceUnit", source_unit_id="u-zone").reason is Reason.OUTSIDE_SCOPE
    create(filled, examples.division(division_code="140671", parent_code=COUNTY, is_extra_zone=True))
    assert registrar.call("GetSourceUnit", source_unit_id="u-zone").source_unit.source_unit_id == "u-zone"


# Credentials


@pytest.fixture
def local_admin(filled: RunningRegistry) -> Access:
    """Return the security administrator of the one county, at the city."""
    issued = Access.of(filled).create(
        access_examples.person(COUNTY, "SECURITY_ADMINISTRATOR", credential_id="local-admin")
    )
    return Access.of(filled, issued.token)


def test_a_local_administrator_issues_within_the_division(local_admin: Access) -> None:
    local_admin.create(access_examples.terminal("u-1", credential_id="t-1"))
    local_admin.create(access_examples.person(COUNTY, "REGISTRAR", credential_id="p-1"))
    assert local_admin.ids() == ["local-admin", "p-1", "t-1"]
    for credential, field in [
        (access_examples.terminal("u-2"), "credential.source_unit_ids[0]"),
        (access_examples.integrator("u-1", "u-2"), "credential.source_unit_ids[1]"),
        (access_examples.person("141000", "VIEWER"), "credential.division_code"),
        (access_examples.person(NEIGHBOUR, "VIEWER"), "credential.division_code"),
    ]:
        refused = local_admin.refused_create(credential)
        assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
        assert refused.metadata == {"field": field}


def test_a_local_administrator_reaches_no_wider_credential(filled: RunningRegistry, local_admin: Access) -> None:
    wide = Access.of(filled)
    wide.create(access_examples.terminal("u-2", credential_id="t-2"))
    wide.create(access_examples.integrator("u-1", "u-2", credential_id="i-2"))
    size = filled.size()
    for credential_id in ("admin", "operator", "t-2", "i-2"):
        renamed = credential_pb2.Credential(credential_id=credential_id, display_name="甲")
        for refused in (
            local_admin.refused_get(credential_id),
            local_admin.refused_update(renamed, "display_name"),
            # Whoever could rotate the administrator's credential would become the administrator.
            local_admin.refused_rotate(credential_id),
            local_admin.refused_revoke(credential_id),
        ):
            assert refused.reason is Reason.OUTSIDE_SCOPE
    assert filled.size() == size
    assert local_admin.ids(include_ended=True) == ["local-admin"]


def test_a_local_administrator_moves_nobody_out(local_admin: Access) -> None:
    local_admin.create(access_examples.person(COUNTY, "VIEWER", credential_id="p-1"))
    wider = credential_pb2.Credential(credential_id="p-1", division_code="141000")
    assert local_admin.refused_update(wider, "division_code").reason is Reason.OUTSIDE_SCOPE


def test_pages_of_a_local_administrator_are_full(filled: RunningRegistry, local_admin: Access) -> None:
    wide = Access.of(filled)
    for number in range(7):
        wide.create(access_examples.terminal("u-2", credential_id=f"a-{number}"))
        wide.create(access_examples.terminal("u-1", credential_id=f"b-{number}"))
    expected = [*(f"b-{number}" for number in range(7)), "local-admin"]
    for page_size in (1, 3, 8, 100):
        assert local_admin.ids(page_size=page_size) == expected


def test_whom_a_county_calls_its_own_does_not_widen_a_scope(
    filled: RunningRegistry, registry: RunningRegistry, registrar: Caller
) -> None:
    create(registry, examples.division(division_code=NEIGHBOUR, parent_code=COUNTY))
    filled.receive(registry.batches())
    assert registrar.refused("GetSourceUnit", source_unit_id="u-2").reason is Reason.OUTSIDE_SCOPE


def test_without_permission_the_bounds_do_not_matter(terminal: Caller) -> None:
    unit = examples.source_unit(source_unit_id="u-1", division_code=COUNTY)
    assert terminal.refused("UpdateSourceUnit", source_unit=unit).reason is Reason.PERMISSION_MISSING
    with pytest.raises(grpc.RpcError):
        terminal.call("CreateWeighingPoint", weighing_point=examples.weighing_point(source_unit_id="u-1"))
