"""Lists over gRPC: filters, pages that stay right while resources are created, and tokens."""

import base64
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.reasons import Reason
from tests.registry import examples
from tests.registry.calls import create, list_all, refused_list
from tests.registry.harness import RunningRegistry
from zhichao.registry.v1 import resources_pb2 as pb
from zhichao.registry.v1 import service_pb2

ids = st.text("abcXYZ019_-", min_size=1, max_size=6)


def unit_ids(resources: list[pb.SourceUnit]) -> list[str]:
    return [unit.source_unit_id for unit in resources]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sets(ids, max_size=12), meanwhile=st.lists(ids, max_size=6), size=st.integers(1, 5), salt=st.uuids())
def test_pages_hold_each_unit_once_while_others_are_created(
    shared: RunningRegistry, before: set[str], meanwhile: list[str], size: int, salt: Any
) -> None:
    prefix = salt.hex[:16]
    # Examples share the database; the kind of division sets them apart.
    division_code = f"{int(prefix, 16) % 1_000_000:06d}"
    existing = {unit.source_unit_id for unit in list_all(shared, pb.SourceUnit(), division_code=division_code)}
    for name in before:
        create(shared, examples.source_unit(source_unit_id=f"{prefix}{name}", division_code=division_code))

    seen: list[str] = []
    waiting = list(meanwhile)
    token = ""
    while True:
        request = service_pb2.ListSourceUnitsRequest(division_code=division_code, page_size=size, page_token=token)
        page = shared.call("ListSourceUnits", request)
        assert len(page.source_units) <= size
        seen += unit_ids(page.source_units)
        token = page.next_page_token
        if not token:
            break
        if waiting:
            added = examples.source_unit(source_unit_id=f"{prefix}{waiting.pop()}", division_code=division_code)
            create(shared, added)

    assert seen == sorted(set(seen))
    assert {f"{prefix}{name}" for name in before} | existing <= set(seen)
    assert set(seen) <= {f"{prefix}{name}" for name in {*before, *meanwhile}} | existing


@pytest.fixture(scope="module")
def filled(shared: RunningRegistry) -> RunningRegistry:
    """Fill a registry with two units, three points, three scales, certificates, divisions and platforms."""
    for unit_id, kind, state in (("f-1", 1, 3), ("f-2", 3, 1)):
        create(shared, examples.source_unit(source_unit_id=unit_id, kind=kind, state=state, division_code="141099"))
    for unit_id, point_id in (("f-1", "a"), ("f-1", "b"), ("f-2", "a")):
        create(shared, examples.weighing_point(source_unit_id=unit_id, weighing_point_id=point_id))
        create(
            shared,
            examples.scale(source_unit_id=unit_id, weighing_point_id=point_id, scale_id=f"s-{point_id}"),
        )
    for number, valid_until in (("1", "2025-05-01"), ("2", "2025-06-01")):
        create(
            shared,
            examples.verification_certificate(
                source_unit_id="f-1", scale_id="s-a", certificate_number=number, valid_until=valid_until
            ),
        )
    create(shared, examples.division(division_code="140624", parent_code="140600", valid_until="2018-02-01"))
    create(shared, examples.division(division_code="140681", parent_code="140600", valid_from="2018-02-01"))
    create(shared, examples.division(division_code="140600", parent_code="140000", level=2, valid_from=""))
    create(shared, examples.platform(platform_code="140681", upstream_code="140600"))
    create(shared, examples.platform(platform_code="140600", upstream_code=""))
    create(shared, examples.rule_set(effective_from="2020-01-01", effective_until="2021-01-01"))
    return shared


def keys(resources: list[Any], *fields: str) -> list[Any]:
    return [tuple(getattr(resource, field) for field in fields) for resource in resources]


def test_filters_of_divisions(filled: RunningRegistry) -> None:
    def codes(**filters: Any) -> list[Any]:
        return [code for (code,) in keys(list_all(filled, pb.Division(), **filters), "division_code")]

    assert codes() == ["140600", "140624", "140681"]
    assert codes(parent_code="140600") == ["140624", "140681"]
    assert codes(parent_code="140600", valid_on="2018-01-31") == ["140624"]
    assert codes(valid_on="2018-02-01") == ["140600", "140681"]
    assert codes(origin="141025", valid_on="1960-01-01") == ["140600"]
    assert codes(origin="141000") == []


def test_filters_of_platforms(filled: RunningRegistry) -> None:
    assert keys(list_all(filled, pb.Platform(), upstream_code="140600"), "platform_code") == [("140681",)]


def test_filters_of_source_units(filled: RunningRegistry) -> None:
    def found(**filters: Any) -> list[str]:
        return unit_ids(list_all(filled, pb.SourceUnit(), division_code="141099", **filters))

    assert found() == ["f-1", "f-2"]
    assert found(kind=pb.SOURCE_UNIT_KIND_QUARRY) == ["f-2"]
    assert found(state=pb.SOURCE_UNIT_STATE_OPERATING) == ["f-1"]
    assert found(kind=pb.SOURCE_UNIT_KIND_QUARRY, state=pb.SOURCE_UNIT_STATE_OPERATING) == []
    assert found(kind=77) == []


def test_filters_of_points_scales_and_certificates(filled: RunningRegistry) -> None:
    points = list_all(filled, pb.WeighingPoint(), source_unit_id="f-1")
    assert keys(points, "source_unit_id", "weighing_point_id") == [("f-1", "a"), ("f-1", "b")]
    scales = list_all(filled, pb.Scale(), weighing_point_id="a")
    assert keys(scales, "source_unit_id", "scale_id") == [("f-1", "s-a"), ("f-2", "s-a")]
    certificates = list_all(filled, pb.VerificationCertificate(), scale_id="s-a", expires_before="2025-06-01")
    assert keys(certificates, "certificate_number") == [("1",)]


def test_filters_of_rule_sets(filled: RunningRegistry) -> None:
    assert ("example",) in keys(list_all(filled, pb.RuleSet(), effective_on="2020-12-31"), "rule_set_id")
    assert ("example",) not in keys(list_all(filled, pb.RuleSet(), effective_on="2021-01-01"), "rule_set_id")


@pytest.mark.parametrize("resource", examples.all_in_order(), ids=lambda resource: resource.DESCRIPTOR.name)
def test_pages_of_one_hold_the_same_as_one_page(filled: RunningRegistry, resource: Any) -> None:
    assert list_all(filled, resource, page_size=1) == list_all(filled, resource, page_size=1_000)


def test_every_bad_filter_is_named(shared: RunningRegistry) -> None:
    refused = refused_list(shared, pb.VerificationCertificate(), source_unit_id="a b", expires_before="now", origin="1")
    assert refused.fields == ["source_unit_id", "expires_before", "origin"]
    assert refused_list(shared, pb.Division(), page_size=-1).fields == ["page_size"]


def test_a_token_belongs_to_its_list_and_filter(filled: RunningRegistry) -> None:
    request = service_pb2.ListSourceUnitsRequest(division_code="141099", page_size=1)
    token = filled.call("ListSourceUnits", request).next_page_token

    for resource, fields in (
        (pb.SourceUnit(), {"division_code": "141098"}),
        (pb.SourceUnit(), {}),
        (pb.Platform(), {}),
        (pb.RuleSet(), {}),
    ):
        refused = refused_list(filled, resource, page_token=token, **fields)
        assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", Reason.INVALID_PAGE_TOKEN)
    # Another size is no other filter.
    again = service_pb2.ListSourceUnitsRequest(division_code="141099", page_size=7, page_token=token)
    assert unit_ids(filled.call("ListSourceUnits", again).source_units) == ["f-2"]


@pytest.mark.parametrize("part", ["\\ud800", "\\u0000", "a"])
def test_a_forged_token_is_refused_like_any_other(filled: RunningRegistry, part: str) -> None:
    token = filled.call("ListPlatforms", service_pb2.ListPlatformsRequest(page_size=1)).next_page_token
    content = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).replace(b"140600", part.encode())
    forged = base64.urlsafe_b64encode(content).decode().rstrip("=")
    assert refused_list(filled, pb.Platform(), page_token=forged).reason is Reason.INVALID_PAGE_TOKEN


@given(st.text(max_size=60))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_a_token_is_refused_in_form(shared: RunningRegistry, token: str) -> None:
    if token:
        assert refused_list(shared, pb.Platform(), page_token=token).reason is Reason.INVALID_PAGE_TOKEN
