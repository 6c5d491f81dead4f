"""Collects what proves one weighing: that it is exported is written down first, then all is fetched and proven."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from cli.evidence_bundle.packing import EntryKey, EvidencePart, LogKey, Material, ProvenBytes
from cli.evidence_export.custody_choice import CustodyChoice
from cli.evidence_export.pieces import Choice, find_pieces
from cli.evidence_export.sources import CALL_SECONDS_MAX, ExportError, Sources
from cli.evidence_transfer import Retries, name_of, read_bytes
from cli.verifier.notes import Note, UnreadableNoteError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.registry.v1 import service_pb2 as registry_pb
from zhichao.video.v1 import service_pb2 as pb
from zhichao.weighing.v1 import service_pb2 as weighing_pb

POLL_SECONDS: Final = 0.5


@dataclass(slots=True)
class Order:
    """What is asked for."""

    bundle_id: str
    purpose: str
    allows_missing_bytes: bool
    cosigned_within_seconds: float
    choice: Choice = field(default_factory=Choice)
    tell: Callable[[str], None] = lambda text: None


@dataclass(slots=True)
class _Log:
    """The log of which entries are wanted."""

    sequences: set[int] = field(default_factory=lambda: {1})


class Collection:
    """Collects the material of one bundle."""

    def __init__(self, sources: Sources, order: Order) -> None:
        self._sources = sources
        self._order = order
        self._logs: dict[LogKey, _Log] = {}
        self._held: dict[LogKey, bool] = {}

    def collect(self, weighing: weighing_pb.HeldWeighing, progress: Callable[[int], None]) -> Material:
        """Return everything. `progress` hears of the bytes of evidence that came.

        Raises ExportError, BrokenOffError, and grpc.RpcError for what a service refuses.
        """
        own = self._sources.own_log("video")
        if own is None:
            raise ExportError("the video service has no log yet 视频服务尚无日志")
        pieces = find_pieces(self._sources, weighing, self._order.choice)
        held = pieces.held
        self._refuse_missing_bytes(held)
        self._sources.video.RecordExport(
            pb.RecordExportRequest(
                names=[name_of(one) for one in held], purpose=self._order.purpose, bundle_id=self._order.bundle_id
            ),
            timeout=CALL_SECONDS_MAX,
        )
        choice = CustodyChoice(own.origin, self._order.bundle_id)
        for one in held:
            for event in self._sources.custody(name_of(one)):
                choice.offer(event)
        custody, custody_unproven = self._custody(choice)
        receipt, judgement = weighing.receipt, weighing.weighing.judgement
        weighing_key = self._want("weighing", receipt.origin, receipt.sequence)
        certificate = self._certificate(weighing)
        rule_set = self._rule_set(
            judgement.rule_set_origin or receipt.origin, judgement.rule_set_id, judgement.rule_set_version
        )
        parts = [self._part(one, progress) for one in held]
        entries, checkpoints = self._prove()
        return Material(
            bundle_id=self._order.bundle_id,
            platform=own.origin,
            weighing=weighing_key,
            rule_set=rule_set,
            certificate=certificate,
            evidence=parts,
            custody=custody,
            custody_unproven=custody_unproven,
            evidence_left_out=pieces.left_out,
            custody_left_out=choice.left_out,
            entries=entries,
            checkpoints=checkpoints,
            keys=self._keys(own.origin, checkpoints),
        )

    # What there is

    def _refuse_missing_bytes(self, held: Sequence[pb.HeldEvidence]) -> None:
        away = [one for one in held if one.bytes_state != pb.BYTES_STATE_HELD]
        if away and not self._order.allows_missing_bytes:
            names = ", ".join(f"{one.origin}/{one.evidence.source_unit_id}/{one.evidence.evidence_id}" for one in away)
            raise ExportError(
                f"the bytes are not here of {names}: ask for them with `zhichao evidence fetch`, or leave them out with"
                " --allow-missing-bytes 原始字节不在本平台, 请先调取, 或用 --allow-missing-bytes 略过"
            )

    def _custody(self, choice: CustodyChoice) -> tuple[list[EntryKey], list[pb.HeldCustodyEvent]]:
        """Return where the events stand in logs that are held whole, and the events of platforms above."""
        keys: list[EntryKey] = []
        unproven: list[pb.HeldCustodyEvent] = []
        for event in choice.kept:
            if self._holds(("video", event.origin)):
                keys.append(self._want("video", event.origin, event.sequence))
            else:
                unproven.append(event)
        for origin in sorted({event.origin for event in unproven}):
            self._order.tell(
                f"what {origin} did with it is put in without a proof: its log is not held here"
                " 上级平台的保管记录未附证明: 本平台不持有其日志"
            )
        return keys, unproven

    def _part(self, held: pb.HeldEvidence, progress: Callable[[int], None]) -> EvidencePart:
        evidence = held.evidence
        key = self._want("video", held.origin, held.sequence)
        is_here = held.bytes_state == pb.BYTES_STATE_HELD
        state = pb.BytesState.Name(held.bytes_state).removeprefix("BYTES_STATE_")
        return EvidencePart(
            key,
            evidence.digest,
            evidence.size_bytes,
            evidence.content_type,
            state,
            partial(self._bytes, held, progress) if is_here else None,
        )

    def _bytes(self, held: pb.HeldEvidence, progress: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the bytes, going on when a call breaks off. Their digest is compared by who packs them."""
        retries, done = Retries(), 0
        while done < held.evidence.size_bytes:
            try:
                for chunk in read_bytes(self._sources.video, held, self._order.purpose, offset=done, is_download=True):
                    done += len(chunk)
                    retries.came_further()
                    progress(len(chunk))
                    yield chunk
            except grpc.RpcError as error:
                refused = service_error(error)
                if not refused.is_retryable:
                    raise
                retries.wait(refused)

    def _certificate(self, weighing: weighing_pb.HeldWeighing) -> EntryKey | None:
        record, number = weighing.weighing.record, weighing.weighing.judgement.certificate_number
        if not number:
            return None
        request = registry_pb.GetVerificationCertificateRequest(
            source_unit_id=record.source_unit_id,
            scale_id=record.scale_id,
            certificate_number=number,
            origin=weighing.receipt.origin,
        )
        answer = self._sources.registry.GetVerificationCertificate(request, timeout=CALL_SECONDS_MAX)
        info = answer.verification_certificate.info
        return self._want("registry", info.origin, info.sequence)

    def _rule_set(self, origin: str, rule_set_id: str, version: int) -> EntryKey | bytes | None:
        """Return where the rule set stands in a log that is held whole, or else what the registry says that it is."""
        if not rule_set_id:
            return None
        request = registry_pb.GetRuleSetRequest(rule_set_id=rule_set_id, version=version, origin=origin)
        rule_set = self._sources.registry.GetRuleSet(request, timeout=CALL_SECONDS_MAX).rule_set
        log = ("registry", rule_set.info.origin)
        if rule_set.info.sequence and self._holds(log):
            return self._want(*log, rule_set.info.sequence)
        self._order.tell(
            f"the rule set {rule_set_id} of {rule_set.info.origin} is put in without a proof: its log is not held here"
            " 规则集来自上级平台, 本平台不持有其日志, 未附证明"
        )
        return bytes(rule_set.SerializeToString())

    # What proves it

    def _holds(self, log: LogKey) -> bool:
        """Whether a log is held whole: of a platform above only what is addressed to this one is held."""
        if log not in self._held:
            try:
                self._held[log] = self._sources.checkpoint(log) is not None
            except grpc.RpcError as error:
                if service_error(error).reason is not Reason.UNKNOWN_LOG:
                    raise
                self._held[log] = False
        return self._held[log]

    def _want(self, stream: str, origin: str, sequence: int) -> EntryKey:
        self._logs.setdefault((stream, origin), _Log()).sequences.add(sequence)
        return (stream, origin, sequence)

    def _prove(self) -> tuple[dict[EntryKey, ProvenBytes], dict[LogKey, str]]:
        entries: dict[EntryKey, ProvenBytes] = {}
        checkpoints: dict[LogKey, str] = {}
        until = time.monotonic() + self._order.cosigned_within_seconds
        for log, wanted in sorted(self._logs.items()):
            note = self._checkpoint(log, max(wanted.sequences), until)
            size = _size(note)
            checkpoints[log] = note
            for sequence in sorted(wanted.sequences):
                entries[(*log, sequence)] = self._sources.prove((*log, sequence), size)
        return entries, checkpoints

    def _checkpoint(self, log: LogKey, size_min: int, until: float) -> str:
        """Return the newest cosigned checkpoint that covers a size; another one if there is none in time."""
        while True:
            if (cosigned := self._sources.checkpoint(log, size_min, is_cosigned=True)) is not None:
                return cosigned[0]
            if time.monotonic() >= until:
                break
            time.sleep(POLL_SECONDS)
        newest = self._sources.checkpoint(log)
        if newest is None or _size(newest[0]) < size_min:
            raise ExportError(
                f"the {log[0]} log of {log[1]} has no checkpoint that covers what is exported: try again in a while"
                " 日志检查点尚未覆盖所需条目, 请稍后重试"
            )
        self._order.tell(
            f"the {log[0]} log of {log[1]} is signed by its platform only: nobody above has cosigned it so far"
            " 该日志尚无上级联署"
        )
        return newest[0]

    def _keys(self, own: str, checkpoints: dict[LogKey, str]) -> list[str]:
        """Return the keys of this platform and of those whose logs are in the bundle: one may have cosigned another."""
        keys = set()
        for log in {*checkpoints, ("video", own)}:
            found = self._sources.checkpoint(log)
            if found is not None:
                keys.add(found[1])
        return sorted(keys)


def find_weighing(sources: Sources, name: str) -> weighing_pb.HeldWeighing:
    """Return the weighing named UNIT/RECORD or ORIGIN:SEQUENCE. Raises ExportError, grpc.RpcError."""
    origin, colon, sequence = name.partition(":")
    request: Any = weighing_pb.GetWeighingRequest()
    unit, slash, record = name.partition("/")
    if slash and unit and record:
        request.record_name.source_unit_id = unit
        request.record_name.record_id = record
    elif colon and origin.isdecimal() and sequence.isascii() and sequence.isdecimal():
        request.receipt.origin = origin
        request.receipt.sequence = int(sequence)
    else:
        raise ExportError(f"{name}: write UNIT/RECORD or PLATFORM:SEQUENCE 请写成 单位/记录编号 或 平台:序号")
    return sources.weighing.GetWeighing(request, timeout=CALL_SECONDS_MAX).held_weighing


def _size(note: str) -> int:
    try:
        return Note.read(note).size
    except UnreadableNoteError as error:
        raise ExportError(f"a checkpoint cannot be read: {error} 检查点无法读取") from error
