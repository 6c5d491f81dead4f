"""The catalogue is the proto enum, word for word, and docs/errors.md shows all of it."""

import re
from pathlib import Path

import grpc
import pytest

from services.common.reasons import SPECS, Reason
from zhichao.common.v1 import refusal_pb2

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "protos/zhichao/common/v1/refusal.proto"
DOCUMENT = ROOT / "docs/errors.md"


def proto_statuses() -> dict[str, str]:
    """Read the status that the comment before each enum value names."""
    found = re.findall(
        r"((?:  //.*\n)+)  ERROR_REASON_(\w+) = [1-9]\d*;", PROTO.read_text(encoding="utf-8"), re.MULTILINE
    )
    statuses = {}
    for comment, name in found:
        words = re.sub(r"\s*//\s*", " ", comment)
        statuses[name] = re.findall(r"Status ([A-Z_]+)\.", words)[-1]
    return statuses


def test_equals_proto_enum() -> None:
    in_proto = [name.removeprefix("ERROR_REASON_") for name in refusal_pb2.ErrorReason.keys()]  # noqa: SIM118 - keys() is the enum's method, the wrapper is no dictionary

    assert [reason.value for reason in Reason] == [name for name in in_proto if name != "UNSPECIFIED"]


def test_every_reason_has_a_spec() -> None:
    assert list(SPECS) == list(Reason)


def test_statuses_are_those_of_the_proto_comments() -> None:
    assert {reason.value: spec.status for reason, spec in SPECS.items()} == proto_statuses()


@pytest.mark.parametrize("reason", list(Reason))
def test_spec_is_complete(reason: Reason) -> None:
    spec = SPECS[reason]

    assert spec.status in grpc.StatusCode.__members__
    assert spec.title_en[0].isupper()
    assert re.search(r"[\u4e00-\u9fff]", spec.title_zh)


def test_document_shows_the_catalogue() -> None:
    rows = [
        line
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.split("`")[1] in Reason.__members__
    ]

    assert rows == [
        f"| `{reason}` | {spec.status} | {spec.title_en} | {spec.title_zh} | {'yes' if spec.is_retryable else 'no'} |"
        for reason, spec in SPECS.items()
    ]
