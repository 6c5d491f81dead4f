"""Which pieces of evidence go into a bundle: all that prove the weighing, or those that somebody chose of them.

A site seals as many as it likes, so that one bundle may not have room for all: then there are several.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cli.evidence_bundle.index import EVIDENCE_MAX
from cli.evidence_export.sources import ExportError, Sources
from cli.evidence_options import full_name
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.weighing.v1 import service_pb2 as weighing_pb

LISTED_MAX: Final = 10_000
"""Pieces of one weighing that are listed: what a county seals in a day. Beyond them they are chosen by name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen: pieces by their names, or a part of all; everything where neither is given."""

    names: Sequence[evidence_pb2.EvidenceName] = ()
    part: int = 0
    """From 1: EVIDENCE_MAX pieces each, in the order in which they were sealed, so that a part that is full stays."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """What goes into a bundle, in the order in which it was taken."""

    held: Sequence[pb.HeldEvidence]
    left_out: int
    """How many others prove the weighing; LISTED_MAX stands for that many or more."""


def find_pieces(sources: Sources, weighing: weighing_pb.HeldWeighing, choice: Choice) -> Pieces:
    """Return what is chosen of the evidence that proves a weighing. Raises ExportError, grpc.RpcError."""
    origin = weighing.receipt.origin
    record = weighing.weighing.record
    narrow = pb.EvidenceFilter(origin=origin, source_unit_id=record.source_unit_id, record_id=record.record_id)
    found, has_more = sources.all_evidence(narrow, LISTED_MAX)
    if choice.names:
        held = _named(sources, weighing, choice.names)
        chosen = {one.sequence for one in held}
        return Pieces(held, LISTED_MAX if has_more else sum(one.sequence not in chosen for one in found))
    if not found:
        raise ExportError("no evidence of it is held here 本平台无该称重的证据")
    by_name = f"`zhichao evidence list --weighing {record.source_unit_id}/{record.record_id}`"
    if has_more:
        raise ExportError(
            f"more than {LISTED_MAX:,} pieces of evidence prove it: choose up to {EVIDENCE_MAX} with --evidence, as"
            f" {by_name} names them 证据超过 {LISTED_MAX:,} 件, 请用 --evidence 指定, 每包至多 {EVIDENCE_MAX} 件"
        )
    part_count = -(-len(found) // EVIDENCE_MAX)
    if not choice.part and part_count > 1:
        raise ExportError(
            f"{len(found):,} pieces of evidence prove it, and a bundle holds {EVIDENCE_MAX}: make {part_count} bundles"
            f" with --part 1 to --part {part_count}, or choose with --evidence, as {by_name} names them"
            f" 证据共 {len(found):,} 件, 每包至多 {EVIDENCE_MAX} 件: 请用 --part 分为 {part_count} 包,"
            " 或用 --evidence 指定"
        )
    if choice.part > part_count:
        raise ExportError(
            f"there is no part {choice.part}: {len(found):,} pieces make {part_count} 证据只分为 {part_count} 包"
        )
    first_of_part = (max(choice.part, 1) - 1) * EVIDENCE_MAX
    held = _as_sealed(found)[first_of_part : first_of_part + EVIDENCE_MAX]
    return Pieces(_as_taken(held), len(found) - len(held))


def _named(
    sources: Sources, weighing: weighing_pb.HeldWeighing, names: Sequence[evidence_pb2.EvidenceName]
) -> list[pb.HeldEvidence]:
    """Return the evidence of these names, each once."""
    origin, record = weighing.receipt.origin, weighing.weighing.record
    # What proves a weighing was sealed by the platform that recorded it.
    asked = {(name.origin or origin, name.source_unit_id, name.evidence_id) for name in names}
    if len(asked) > EVIDENCE_MAX:
        raise ExportError(
            f"{len(asked):,} pieces are chosen, and a bundle holds {EVIDENCE_MAX}: make several"
            f" 每包至多 {EVIDENCE_MAX} 件证据, 请分多次导出"
        )
    held = []
    for name in sorted(asked):
        one = sources.evidence(*name)
        is_proof = record.record_id in {subject.record_id for subject in one.evidence.subjects}
        if name[:2] != (origin, record.source_unit_id) or not is_proof:
            raise ExportError(f"{full_name(*name)} does not prove this weighing 该证据未关联此称重")
        held.append(one)
    return _as_taken(held)


def _as_sealed(found: Iterable[pb.HeldEvidence]) -> list[pb.HeldEvidence]:
    return sorted(found, key=lambda one: one.sequence)


def _as_taken(found: Iterable[pb.HeldEvidence]) -> list[pb.HeldEvidence]:
    return sorted(found, key=lambda one: (one.evidence.capture_start_time.ToNanoseconds(), one.sequence))
