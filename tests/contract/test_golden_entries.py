"""Entries, roots and checkpoints written by an earlier release still hash, read and verify the same.

The file is evidence from the past: when a test here fails, the code is wrong, never the file.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import symbol_database
from google.protobuf.json_format import MessageToDict

from services.enforcement.projection import EnforcementProjection
from services.journal import entries, merkle
from services.journal.access_records import AccessRecordKind
from services.journal.digests import Digester
from services.journal.journal_kinds import WholeProjection
from services.journal.notes import SignedCheckpoint, VerifierKey
from services.journal.projection import Parked, Projection, prepare
from services.journal.receipts import ReceiptKind
from services.registry.projection import RegistryProjection
from services.video.projection import VideoProjection
from services.weighing.projection import WeighingProjection
from zhichao.weighing.v1 import weighing_pb2

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden_entries.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = GOLDEN["entries"]
BYTES = [bytes.fromhex(row["entry"]) for row in ROWS]

PROJECTIONS: dict[str, Projection] = {
    "weighing": WeighingProjection(),
    "registry": RegistryProjection(),
    "access": RegistryProjection(),
    "enforcement": EnforcementProjection(),
    "video": VideoProjection(),
    "journal": WholeProjection(RegistryProjection(), [ReceiptKind(), AccessRecordKind()]),
}


@pytest.fixture(params=["sha256", "sm3"])
def digester(request: pytest.FixtureRequest) -> Digester:
    if request.param not in hashlib.algorithms_available:
        pytest.skip(f"this OpenSSL has no {request.param}")
    return Digester(request.param)


def _kind(row: dict[str, Any]) -> str:
    return str(row["kind"])


def test_leaves(digester: Digester) -> None:
    assert [leaf.hex() for leaf in digester.leaves(BYTES)] == [row["leaf"][digester.algorithm] for row in ROWS]


def test_leaves_are_what_rfc_6962_says() -> None:
    # Without our code: what a stranger would compute.
    assert [hashlib.sha256(b"\x00" + entry).hexdigest() for entry in BYTES] == [row["leaf"]["sha256"] for row in ROWS]


def test_root(digester: Digester) -> None:
    frontier, _ = merkle.Frontier.from_bytes(0, b"").extend(digester, digester.leaves(BYTES))

    assert frontier.root(digester).hex() == GOLDEN["root"][digester.algorithm]


@pytest.mark.parametrize("row", ROWS, ids=_kind)
def test_entry_reads_the_same(row: dict[str, Any]) -> None:
    entry = entries.parse(bytes.fromhex(row["entry"]))

    assert entry is not None
    assert (entry.kind, entry.schema) == (row["kind"], 1)
    payload = symbol_database.Default().GetSymbol(entry.kind).FromString(entry.payload)
    assert MessageToDict(payload, preserving_proto_field_name=True) == row["payload"]


def test_fields_of_a_newer_release_survive() -> None:
    entry = entries.parse(BYTES[1])

    assert entry is not None
    # Field 4095 of the record, which no release knows.
    assert b"\xfa\xff\x01\x05hello" in weighing_pb2.Weighing.FromString(entry.payload).record.SerializeToString()


@pytest.mark.parametrize("row", ROWS[1:], ids=_kind)
def test_entry_can_be_projected(row: dict[str, Any]) -> None:
    entry, leaf = bytes.fromhex(row["entry"]), bytes.fromhex(row["leaf"]["sha256"])
    projection = PROJECTIONS[row["kind"].split(".")[1]]

    prepared = prepare(projection, "141025", 2, entry, leaf)

    assert prepared is not None
    assert not isinstance(prepared, Parked), prepared


def test_log_start_names_the_key() -> None:
    start = entries.parse_log_start(BYTES[0])

    assert start is not None
    assert start.verifier_key == GOLDEN["verifier_keys"]["origin"]


def test_checkpoint_verifies() -> None:
    signed = SignedCheckpoint.parse(GOLDEN["checkpoint"])
    origin, upper = (VerifierKey.parse(GOLDEN["verifier_keys"][name]) for name in ("origin", "upper"))

    assert signed.checkpoint.size == len(ROWS)
    assert signed.checkpoint.root.hex() == GOLDEN["root"]["sha256"]
    assert signed.is_signed_by(origin)
    assert not signed.is_signed_by(upper)
    assert signed.cosigned_at(upper) == GOLDEN["cosign_time_seconds"]
    assert signed.format() == GOLDEN["checkpoint"]
