"""Puts together what a bundle holds and writes it: names, order and index as docs/evidence-bundle.md says."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EEXIST
from pathlib import Path
from typing import Final

from cli.evidence_bundle.archive_writer import BundleWriter
from cli.evidence_bundle.check import BundleCheck, check_bundle
from cli.evidence_bundle.contents import HELD, readable
from cli.evidence_bundle.index import (
    READABLE_NAME,
    README,
    README_NAME,
    EvidenceFiles,
    Index,
    LeftOut,
    LogFiles,
    ProvenEntry,
)
from cli.verifier.check import read_log_start
from cli.verifier.tree import Hashes
from zhichao.video.v1.service_pb2 import HeldCustodyEvent

EntryKey = tuple[str, str, int]
"""Stream, origin, sequence."""

LogKey = tuple[str, str]
"""Stream, origin."""

RULE_SET_NAME: Final = "rule-set.pb"

_ENDINGS: Final = {"image/jpeg": "jpg", "image/png": "png", "video/mp4": "mp4", "application/pdf": "pdf"}


@dataclass(frozen=True, slots=True)
class ProvenBytes:
    """An entry and the path from it to the root of its log's checkpoint."""

    entry: bytes
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class EvidencePart:
    """One piece of evidence. `read` yields its bytes; None when they are not held, in the state named."""

    manifest: EntryKey
    digest: bytes
    size_bytes: int
    content_type: str
    bytes_state: str = HELD
    read: Callable[[], Iterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that goes into a bundle. `entries` holds entry 1 of every log, too.

    `custody_unproven` are events of platforms above, of which the platform holds only what is addressed to it.
    """

    bundle_id: str
    platform: str
    weighing: EntryKey
    rule_set: EntryKey | bytes | None
    certificate: EntryKey | None
    evidence: Sequence[EvidencePart]
    custody: Sequence[EntryKey]
    custody_unproven: Sequence[HeldCustodyEvent]
    entries: Mapping[EntryKey, ProvenBytes]
    checkpoints: Mapping[LogKey, str]
    keys: Sequence[str] = ()
    evidence_left_out: int = 0
    custody_left_out: Mapping[str, int] = field(default_factory=dict)
    """By action."""


class NotRightError(Exception):
    """The bundle that was written is not right; nothing is left of it."""

    def __init__(self, check: BundleCheck) -> None:
        super().__init__("not right as written")
        self.check = check


def pack_checked(path: Path, material: Material) -> BundleCheck:
    """Write the bundle, look at it as its receiver will, and only then give it its name.

    Raises NotRightError, FileExistsError for a name that is taken, and what `pack` does; nothing is left then.
    """
    checks = []

    def look(written: Path) -> None:
        check = check_bundle(written)
        if not check.is_right:
            raise NotRightError(check)
        # A bundle that was handed out under that name is not to become another one.
        if path.exists():
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(path))
        checks.append(check)

    pack(path, material, look)
    return checks[0]


def pack(path: Path, material: Material, look: Callable[[Path], None] = lambda written: None) -> None:
    """Write the bundle; `look` sees it before it has its name.

    Raises OSError, ValueError for what does not fit together, and what `read` and `look` raise; nothing is left then.
    """
    order = sorted(material.entries)
    with BundleWriter(path) as writer:
        writer.add_bytes(README_NAME, README.encode())
        for key in order:
            writer.add_bytes(_entry_name(key), material.entries[key].entry)
        for log in sorted(material.checkpoints):
            writer.add_bytes(_checkpoint_name(log), material.checkpoints[log].encode())
        if isinstance(material.rule_set, bytes):
            writer.add_bytes(RULE_SET_NAME, material.rule_set)
        for event in material.custody_unproven:
            writer.add_bytes(_unproven_name(event), event.SerializeToString())
        evidence = [_add_evidence(writer, part) for part in material.evidence]
        entries = _proven(material, order)
        writer.add_bytes(
            READABLE_NAME,
            readable(
                [(one, material.entries[key].entry) for one, key in zip(entries, order, strict=True)],
                [(_unproven_name(event), event) for event in material.custody_unproven],
            ),
        )
        writer.finish(
            Index(
                bundle_id=material.bundle_id,
                platform=material.platform,
                weighing=_entry_name(material.weighing),
                rule_set=_rule_set_name(material.rule_set),
                rule_set_is_proven=isinstance(material.rule_set, tuple),
                certificate=_entry_name(material.certificate) if material.certificate else "",
                evidence=evidence,
                evidence_left_out=material.evidence_left_out,
                custody=tuple(_entry_name(key) for key in material.custody),
                custody_unproven=tuple(_unproven_name(event) for event in material.custody_unproven),
                custody_left_out=tuple(LeftOut(*one) for one in sorted(material.custody_left_out.items())),
                entries=entries,
                logs=tuple(
                    LogFiles(*log, checkpoint=_checkpoint_name(log), start=_entry_name((*log, 1)))
                    for log in sorted(material.checkpoints)
                ),
                keys=tuple(material.keys),
            ),
            look,
        )


def _add_evidence(writer: BundleWriter, part: EvidencePart) -> EvidenceFiles:
    manifest = _entry_name(part.manifest)
    if part.read is None:
        return EvidenceFiles(manifest, "", part.bytes_state)
    name = f"evidence/{part.digest.hex()}.{_ENDINGS.get(part.content_type, 'bin')}"
    # Two manifests may name the same bytes.
    if name not in writer.names:
        written = writer.add(name, part.read(), part.size_bytes)
        if written.sha256 != part.digest.hex():
            raise ValueError(f"{name} came with the SHA-256 {written.sha256}")
    return EvidenceFiles(manifest, name, HELD)


def _proven(material: Material, order: Sequence[EntryKey]) -> tuple[ProvenEntry, ...]:
    hashes = {}
    for stream, origin in material.checkpoints:
        start = read_log_start(material.entries[stream, origin, 1].entry)
        if start is None:
            raise ValueError(f"entry 1 of the {stream} log of {origin} begins no log")
        hashes[stream, origin] = Hashes(start.digest_algorithm)
    return tuple(
        ProvenEntry(
            _entry_name(key),
            *key,
            leaf=hashes[key[0], key[1]].leaf(material.entries[key].entry).hex(),
            path=tuple(node.hex() for node in material.entries[key].path),
        )
        for key in order
    )


def _rule_set_name(rule_set: EntryKey | bytes | None) -> str:
    if rule_set is None:
        return ""
    return RULE_SET_NAME if isinstance(rule_set, bytes) else _entry_name(rule_set)


def _entry_name(key: EntryKey) -> str:
    stream, origin, sequence = key
    return f"entries/{stream}-{origin}-{sequence}.pb"


def _unproven_name(event: HeldCustodyEvent) -> str:
    return f"unproven/video-{event.origin}-{event.sequence}.pb"


def _checkpoint_name(log: LogKey) -> str:
    return f"checkpoints/{log[0]}-{log[1]}.txt"
