"""Messages to and from what is kept."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.registry import convert
from tests.registry import examples
from zhichao.registry.v1 import resources_pb2 as pb

CREATED = datetime(2025, 1, 1, 1, 2, 3, 456789, tzinfo=UTC)
UPDATED = datetime(2025, 2, 1, tzinfo=UTC)

# Field 2000, a text: what a newer release may have added.
UNKNOWN_FIELD = b"\x82\x7d\x03new"


@pytest.mark.parametrize("resource", examples.all_in_order(), ids=lambda resource: resource.DESCRIPTOR.name)
def test_payload_holds_the_content_and_two_times(resource: Any) -> None:
    resource.info.etag = "old"
    resource.info.warnings.add(field="name")

    kept = type(resource).FromString(convert.to_payload(resource, CREATED, UPDATED))

    assert convert.is_same_content(kept, resource)
    assert convert.times(kept) == (CREATED, UPDATED)
    assert (kept.info.etag, kept.info.origin, len(kept.info.warnings)) == ("", "", 0)


def test_unknown_fields_survive_a_change() -> None:
    newer = pb.SourceUnit.FromString(examples.source_unit().SerializeToString() + UNKNOWN_FIELD)
    convert.set_fields(newer, pb.SourceUnit(name="新名"), ["name"])
    payload = convert.to_payload(newer, CREATED, UPDATED)
    assert UNKNOWN_FIELD in payload
    assert pb.SourceUnit.FromString(payload).name == "新名"


def test_a_payload_without_times_is_told() -> None:
    with pytest.raises(ValueError, match="must be in the payload"):
        convert.times(examples.source_unit())


def test_same_content_looks_at_everything_but_info() -> None:
    left, right = examples.source_unit(), examples.source_unit()
    right.info.etag = "1"
    assert convert.is_same_content(left, right)
    right.location.latitude_degrees += 1e-9
    assert not convert.is_same_content(left, right)
