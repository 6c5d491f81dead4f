"""What the entries of a bundle say, and whether it belongs together: the weighing, what judged it, the evidence that
proves it with its bytes, and what was done with that evidence.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from cli.evidence_bundle.archive import Archive
from cli.evidence_bundle.index import (
    CUSTODY_MAX,
    ENTRY_BYTES_MAX,
    INDEX_NAME,
    READABLE_NAME,
    README_NAME,
    TEXT_BYTES_MAX,
    Index,
    ProvenEntry,
    canonical,
)
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import resources_pb2
from zhichao.video.v1 import custody_pb2, evidence_pb2, service_pb2
from zhichao.weighing.v1 import weighing_pb2

KINDS: Final[Mapping[str, type[Message]]] = {
    one.DESCRIPTOR.full_name: one
    for one in (
        weighing_pb2.Weighing,
        evidence_pb2.Evidence,
        custody_pb2.CustodyEvent,
        resources_pb2.RuleSet,
        resources_pb2.VerificationCertificate,
        entry_pb2.LogStart,
    )
}
"""What bundles hold."""

HELD: Final = "HELD"

UNSHOWN: Final = (DecodeError, JsonError, ValueError, OverflowError)
"""What protobuf raises for a message that JSON cannot hold, such as a time beyond the year 9999."""

_ACTION: Final = re.compile(r"[A-Z0-9_]{1,64}")
"""Name of a custody action, or its number if the exporter did not know it."""

Proven = Mapping[str, tuple[ProvenEntry, bytes]]
Note = Callable[[str, str], None]
Payload = TypeVar("Payload", bound=Message)


@dataclass(slots=True)
class EvidenceFound:
    """One piece of evidence of the bundle."""

    origin: str
    evidence: evidence_pb2.Evidence
    bytes_state: str
    """`HELD` when its bytes are in the bundle."""


@dataclass(slots=True)
class Contents:
    """What the entries say, as far as they are proven."""

    weighing: weighing_pb2.Weighing | None = None
    weighing_origin: str = ""
    weighing_sequence: int = 0
    rule_set: resources_pb2.RuleSet | None = None
    rule_set_is_proven: bool = False
    certificate: resources_pb2.VerificationCertificate | None = None
    evidence: list[EvidenceFound] = field(default_factory=list)
    custody: list[tuple[str, custody_pb2.CustodyEvent]] = field(default_factory=list)
    """Platform and event."""
    custody_unproven: list[service_pb2.HeldCustodyEvent] = field(default_factory=list)
    """Of platforms above, as the exporting platform was told."""
    export: custody_pb2.CustodyEvent | None = None
    """That it was exported, by whom and why."""


def readable(
    entries: Sequence[tuple[ProvenEntry, bytes]], unproven: Sequence[tuple[str, service_pb2.HeldCustodyEvent]]
) -> bytes:
    """Return the readable form, as it stands in readable.json: entries, then what is not proven, which has no entry.

    Raises what protobuf does.
    """
    documents = [_entry_document(proven, content) for proven, content in entries]
    documents += [_event_document(name, event) for name, event in unproven]
    return canonical(documents)


def check_contents(
    archive: Archive, index: Index, proven: Proven, digests: Mapping[str, str], found: Contents, note: Note
) -> None:
    """Check what proven entries say against each other, the bytes and the index."""
    reader = _Reader(proven, note)
    _check_weighing(index, reader, found, note)
    _check_rules(archive, index, reader, found, note)
    _check_evidence(index, reader, digests, found, note)
    _check_custody(index, reader, found, note)
    _check_left_out(index, note)
    unproven = _check_unproven(archive, index, found, note)
    named = {index.weighing, index.rule_set, index.certificate, *index.custody}
    named |= {log.start for log in index.logs} | {one.manifest for one in index.evidence}
    for entry in index.entries:
        if entry.file not in named:
            note(entry.file, "is nothing that belongs into a bundle 多余的条目")
    named |= {log.checkpoint for log in index.logs} | {one.file for one in index.evidence} | {*index.custody_unproven}
    for name in archive.members.keys() - named - {INDEX_NAME, READABLE_NAME, README_NAME}:
        note(name, "is nothing that belongs into a bundle 多余的文件")
    _check_readable(archive, index, proven, unproven, note)


class _Reader:
    def __init__(self, proven: Proven, note: Note) -> None:
        self._proven = proven
        self._note = note

    def read(self, file: str, kind: type[Payload], stream: str) -> tuple[ProvenEntry, Payload] | None:
        """Return what a proven entry says; None, noted, when it is no such entry. It belongs into a log of `stream`."""
        found = self._proven.get(file)
        if found is None:
            # Why it is not proven was noted.
            return None
        proven, content = found
        try:
            entry = entry_pb2.Entry.FromString(content)
            if entry.kind != kind.DESCRIPTOR.full_name:
                self._note(file, f"is a {entry.kind[:80]}, not a {kind.DESCRIPTOR.full_name} 条目种类不符")
                return None
            if proven.stream != stream:
                self._note(file, "stands in the log of another service 条目属于其他服务的日志")
            return proven, kind.FromString(entry.payload)
        except (DecodeError, ValueError):
            self._note(file, "cannot be read 条目无法读取")
            return None


def _check_weighing(index: Index, reader: _Reader, found: Contents, note: Note) -> None:
    read = reader.read(index.weighing, weighing_pb2.Weighing, "weighing")
    if read is None:
        note(index.weighing or INDEX_NAME, "no weighing is proven 称重记录未获证明")
        return
    proven, found.weighing = read
    found.weighing_origin, found.weighing_sequence = proven.origin, proven.sequence


def _check_rules(archive: Archive, index: Index, reader: _Reader, found: Contents, note: Note) -> None:
    if found.weighing is None:
        return
    judgement = found.weighing.judgement
    owner = judgement.rule_set_origin or found.weighing_origin
    if index.rule_set:
        if index.rule_set_is_proven:
            read = reader.read(index.rule_set, resources_pb2.RuleSet, "registry")
            found.rule_set = read[1] if read else None
            if read and read[0].origin != owner:
                note(index.rule_set, "is not of the platform whose rule set judged 规则集来源不符")
        else:
            found.rule_set = _unproven_rules(archive, index, owner, found.weighing_origin, note)
        found.rule_set_is_proven = index.rule_set_is_proven
        rules = found.rule_set
        judged_by = (judgement.rule_set_id, judgement.rule_set_version)
        if rules is not None and (rules.rule_set_id, rules.version) != judged_by:
            note(index.rule_set, "is not the rule set that judged 不是作出判定的规则集")
    elif judgement.rule_set_id:
        note(INDEX_NAME, "the rule set that judged is not there 缺少作出判定的规则集")
    if index.certificate:
        certificate = reader.read(index.certificate, resources_pb2.VerificationCertificate, "registry")
        if certificate is not None:
            found.certificate = certificate[1]
            if certificate[0].origin != found.weighing_origin:
                # Whoever has the key of any platform can prove a certificate of any scale.
                note(index.certificate, "is not of the platform that weighed 检定证书不属于称重平台")
            record = found.weighing.record
            said = (found.certificate.source_unit_id, found.certificate.scale_id, found.certificate.certificate_number)
            if said != (record.source_unit_id, record.scale_id, judgement.certificate_number):
                note(index.certificate, "is not the certificate that the judgement names 不是判定所引用的检定证书")
    elif judgement.certificate_number:
        note(INDEX_NAME, "the certificate that the judgement names is not there 缺少判定所引用的检定证书")


def _unproven_rules(
    archive: Archive, index: Index, owner: str, weighing_origin: str, note: Note
) -> resources_pb2.RuleSet | None:
    """Read a rule set that nothing proves: it may only be of a platform whose registry log was not to be had."""
    # Whoever exports holds its own logs and those of the platform that weighed; and what is in the bundle it held, too.
    held = {weighing_origin, index.platform, *(log.origin for log in index.logs if log.stream == "registry")}
    if owner in held:
        note(index.rule_set, f"is of {owner[:16]}, whose registry log was at hand: it could be proven 应附证明而未附")
    try:
        rules = resources_pb2.RuleSet.FromString(archive.content(index.rule_set, ENTRY_BYTES_MAX) or b"")
    except (DecodeError, ValueError):
        note(index.rule_set, "cannot be read 规则集无法读取")
        return None
    if rules.info.origin != owner:
        note(index.rule_set, "is not of the platform whose rule set judged 规则集来源不符")
    return rules


def _check_evidence(index: Index, reader: _Reader, digests: Mapping[str, str], found: Contents, note: Note) -> None:
    used = set()
    for one in index.evidence:
        if one.file:
            used.add(one.file)
        read = reader.read(one.manifest, evidence_pb2.Evidence, "video")
        if read is None:
            continue
        proven, evidence = read
        found.evidence.append(EvidenceFound(proven.origin, evidence, one.bytes_state))
        if one.file and digests.get(one.file) != evidence.digest.hex():
            note(one.file, "is not what its manifest sealed: another SHA-256 与封存摘要不符")
        if bool(one.file) != (one.bytes_state == HELD):
            note(one.manifest, "the bytes that the platform held are not there 缺少证据原始字节")
        record = found.weighing.record if found.weighing is not None else None
        if record is not None and (
            evidence.source_unit_id != record.source_unit_id
            or proven.origin != found.weighing_origin
            or record.record_id not in {subject.record_id for subject in evidence.subjects}
        ):
            note(one.manifest, "does not say that it proves this weighing 证据未关联该称重记录")
    if not index.evidence:
        note(INDEX_NAME, "names no evidence 没有证据")
    manifests = [one.manifest for one in index.evidence]
    if len(set(manifests)) != len(manifests):
        note(INDEX_NAME, "names a manifest twice 证据清单重复")
    for name in digests:
        if name.startswith("evidence/") and name not in used:
            note(name, "no manifest names it 没有对应的证据清单")


def _check_custody(index: Index, reader: _Reader, found: Contents, note: Note) -> None:
    named = {_name(one): one for one in found.evidence}
    exported = set()
    if len({*index.custody, *index.custody_unproven}) != len(index.custody) + len(index.custody_unproven):
        note(INDEX_NAME, "names a custody event twice 保管记录重复")
    for file in index.custody:
        read = reader.read(file, custody_pb2.CustodyEvent, "video")
        if read is None:
            continue
        proven, event = read
        found.custody.append((proven.origin, event))
        name = (event.evidence_origin, event.source_unit_id, event.evidence_id)
        about = named.get(name)
        if about is None or about.evidence.digest != event.digest:
            note(file, "is about evidence that is not in the bundle 保管记录与证据不符")
            continue
        is_export = event.action == custody_pb2.CUSTODY_ACTION_EXPORTED and event.reference_id == index.bundle_id
        if is_export and proven.origin == index.platform:
            exported.add(name)
            found.export = event
    for name in named.keys() - exported:
        note(
            INDEX_NAME,
            f"no entry of {index.platform[:16]} says that {name[2][:64]} was exported as {index.bundle_id[:64]}"
            " 缺少导出记录",
        )


def _check_left_out(index: Index, note: Note) -> None:
    """Check how it is said what was left out. How much it was is the word of whoever exported."""
    actions = [one.action for one in index.custody_left_out]
    is_said_well = all(_ACTION.fullmatch(one.action) and one.count for one in index.custody_left_out)
    if actions != sorted(set(actions)) or not is_said_well:
        note(INDEX_NAME, "does not say well which custody events were left out 略去的保管记录写法不规范")
    elif actions and len(index.custody) + len(index.custody_unproven) != CUSTODY_MAX:
        note(INDEX_NAME, "leaves out custody events for which there is room 略去了本可收录的保管记录")


def _check_unproven(
    archive: Archive, index: Index, found: Contents, note: Note
) -> list[tuple[str, service_pb2.HeldCustodyEvent]]:
    """Read the events of platforms above; return them with the names of their files."""
    named = {_name(one): one.evidence.digest for one in found.evidence}
    proven_of = {log.origin for log in index.logs if log.stream == "video"}
    read = []
    for file in index.custody_unproven:
        try:
            event = service_pb2.HeldCustodyEvent.FromString(archive.content(file, ENTRY_BYTES_MAX) or b"")
        except (DecodeError, ValueError):
            note(file, "cannot be read 条目无法读取")
            continue
        read.append((file, event))
        found.custody_unproven.append(event)
        said = event.event
        if named.get((said.evidence_origin, said.source_unit_id, said.evidence_id)) != said.digest:
            note(file, "is about evidence that is not in the bundle 保管记录与证据不符")
        if event.origin in proven_of:
            # Whoever has the log of that platform has the proof, too.
            note(file, f"is of {event.origin[:16]}, whose log is in the bundle: it could be proven 应附证明而未附")
    return read


def _check_readable(
    archive: Archive,
    index: Index,
    proven: Proven,
    unproven: Sequence[tuple[str, service_pb2.HeldCustodyEvent]],
    note: Note,
) -> None:
    if len(proven) != len(index.entries) or len(unproven) != len(index.custody_unproven):
        # What is missing was noted, and is missing here too.
        return
    ways = [(one.file, partial(_entry_document, *proven[one.file])) for one in index.entries]
    ways += [(file, partial(_event_document, file, event)) for file, event in unproven]
    documents = []
    for file, document in ways:
        try:
            documents.append(document())
        except UNSHOWN:
            note(file, "holds what has no readable form 内容无法转为可读形式")
    if len(documents) != len(ways):
        # Nothing says then that people read what the entries say.
        note(READABLE_NAME, "cannot be compared with what the entries say 无法与条目内容比对")
    elif archive.content(READABLE_NAME, TEXT_BYTES_MAX) != canonical(documents):
        note(READABLE_NAME, "says something else than the entries 可读文件与条目内容不符")


def _entry_document(proven: ProvenEntry, content: bytes) -> Mapping[str, Any]:
    entry = entry_pb2.Entry.FromString(content)
    kind = KINDS.get(entry.kind)
    payload = _document(kind.FromString(entry.payload)) if kind is not None else None
    said = _document(entry)
    said.pop("payload", None)
    return {"file": proven.file, "entry": said, "payload": payload}


def _event_document(name: str, event: service_pb2.HeldCustodyEvent) -> Mapping[str, Any]:
    return {"file": name, "entry": None, "payload": _document(event)}


def _name(one: EvidenceFound) -> tuple[str, str, str]:
    return (one.origin, one.evidence.source_unit_id, one.evidence.evidence_id)


def _document(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)
