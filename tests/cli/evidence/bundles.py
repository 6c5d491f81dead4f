"""Small logs in memory, signed and cosigned as platforms do it, and the bundle that is packed of them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message

from cli.evidence_bundle.packing import EntryKey, EvidencePart, Material, ProvenBytes, pack
from cli.verifier.notes import PublicKey
from cli.verifier.tree import Hashes, split, tree_hash
from services.journal.notes import Checkpoint, Signer, log_name, signer_name
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import resources_pb2
from zhichao.video.v1 import custody_pb2, evidence_pb2, service_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2

COUNTY, CITY, PROVINCE = "141025", "141000", "140000"
UNIT, RECORD, BUNDLE = "141025-S1-001", "r-1", "b-1"
NOW = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
PHOTO, CLIP = b"a photo" * 40, b"a clip" * 60
HASHES: Final = Hashes("sha256")


def signer(platform: str, seed: int = 0) -> Signer:
    """Make the key of a platform; the same one each time."""
    content = hashlib.sha256(f"{platform}/{seed}".encode()).digest()
    return Signer(signer_name(platform), Ed25519PrivateKey.from_private_bytes(content))


def key_of(platform: str, seed: int = 0) -> PublicKey:
    return PublicKey.read(signer(platform, seed).verifier_key.format())


def path_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path, as RFC 6962 defines it."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*path_of(leaves[:middle], index), tree_hash(HASHES, leaves[middle:])]
    return [*path_of(leaves[middle:], index - middle), tree_hash(HASHES, leaves[:middle])]


@dataclass
class Log:
    """The log of one service of one platform."""

    stream: str
    origin: str
    seed: int = 0
    entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = entry_pb2.LogStart(
            origin=self.origin,
            stream=self.stream,
            digest_algorithm="sha256",
            verifier_key=signer(self.origin, self.seed).verifier_key.format(),
        )
        self.append(start)

    def append(self, payload: Message, kind: str = "") -> EntryKey:
        entry = entry_pb2.Entry(
            kind=kind or payload.DESCRIPTOR.full_name, schema=1, payload=payload.SerializeToString(), actor="person/li"
        )
        entry.write_time.FromDatetime(NOW)
        self.entries.append(entry.SerializeToString())
        return (self.stream, self.origin, len(self.entries))

    def proven(self, sequence: int) -> ProvenBytes:
        leaves = [HASHES.leaf(entry) for entry in self.entries]
        return ProvenBytes(self.entries[sequence - 1], path_of(leaves, sequence - 1))

    def checkpoint(self, *, cosigned_by: str = "") -> str:
        root = tree_hash(HASHES, [HASHES.leaf(entry) for entry in self.entries])
        signed = signer(self.origin, self.seed).sign(
            Checkpoint(log_name(self.stream, self.origin), len(self.entries), root)
        )
        if cosigned_by:
            signed = signer(cosigned_by).cosign(signed, int(NOW.timestamp()))
        return signed.format()


def weighing(*, is_judged: bool = True, rule_set_origin: str = "") -> weighing_pb2.Weighing:
    made = weighing_pb2.Weighing(
        record=record_pb2.WeighingRecord(
            record_id=RECORD, source_unit_id=UNIT, weighing_point_id="P1", scale_id="C1", gross_weight_kg=58_200
        ),
        judgement=weighing_pb2.Judgement(
            verdict=weighing_pb2.VERDICT_SUSPECTED,
            rule_set_id="order-62-2016",
            rule_set_version=1,
            excess_kg=9_200,
            certificate_number="SIM-1",
            rule_set_origin=rule_set_origin,
        )
        if is_judged
        else weighing_pb2.Judgement(verdict=weighing_pb2.VERDICT_NOT_JUDGED),
        division_code=COUNTY,
        plate_number="晋N12345",
    )
    made.record.weigh_time.FromDatetime(NOW)
    return made


def evidence(evidence_id: str, content: bytes, kind: int, record_id: str = RECORD) -> evidence_pb2.Evidence:
    made = evidence_pb2.Evidence(
        source_unit_id=UNIT,
        evidence_id=evidence_id,
        kind=kind,  # type: ignore[arg-type]  # a number of the enum
        digest=hashlib.sha256(content).digest(),
        size_bytes=len(content),
        content_type="image/jpeg" if kind == evidence_pb2.EVIDENCE_KIND_PHOTO else "video/mp4",
        subjects=[evidence_pb2.Subject(record_id=record_id)],
    )
    made.capture_start_time.FromDatetime(NOW)
    return made


def exported(manifest: evidence_pb2.Evidence, bundle_id: str = BUNDLE) -> custody_pb2.CustodyEvent:
    event = custody_pb2.CustodyEvent(
        evidence_origin=COUNTY,
        source_unit_id=UNIT,
        evidence_id=manifest.evidence_id,
        digest=manifest.digest,
        action=custody_pb2.CUSTODY_ACTION_EXPORTED,
        purpose="复核",
        actor="person/li",
        reference_id=bundle_id,
    )
    event.event_time.FromDatetime(NOW)
    return event


def requested(manifest: evidence_pb2.Evidence) -> custody_pb2.CustodyEvent:
    event = exported(manifest, "r-1")
    event.action = custody_pb2.CUSTODY_ACTION_REQUESTED
    event.actor = "person/zhang"
    return event


def rule_set_told(origin: str, version: int = 1) -> bytes:
    """Return a rule set as a registry tells it that holds no log of its owner."""
    told = resources_pb2.RuleSet(rule_set_id="order-62-2016", version=version, title="Order")
    told.info.origin = origin
    return told.SerializeToString()


class Case:
    """Three logs of a county with a weighing, its photo and its clip, and what becomes a bundle of them.

    The city has asked for the clip, which the county was told.

    A small one has a weighing that nothing judged, and its photo. With `rule_set_origin`, a rule set of that platform
    judged, of which the county was told.
    """

    def __init__(self, seed: int = 0, *, is_small: bool = False, rule_set_origin: str = "") -> None:
        self.logs = {name: Log(name, COUNTY, seed) for name in ("weighing", "video", "registry")}
        video = self.logs["video"]
        self.photo = evidence("e-photo", PHOTO, evidence_pb2.EVIDENCE_KIND_PHOTO)
        self.clip = evidence("e-clip", CLIP, evidence_pb2.EVIDENCE_KIND_CLIP)
        self.weighing = self.logs["weighing"].append(weighing(is_judged=not is_small, rule_set_origin=rule_set_origin))
        for number in range(5):
            self.logs["weighing"].append(weighing_pb2.Weighing(division_code=str(number)))
        self.manifests = [video.append(self.photo), video.append(self.clip)]
        self.custody = [video.append(exported(self.photo)), video.append(exported(self.clip))]
        self.told = [service_pb2.HeldCustodyEvent(origin=CITY, sequence=7, event=requested(self.clip))]
        registry = self.logs["registry"]
        self.rule_set: EntryKey | bytes | None = registry.append(
            resources_pb2.RuleSet(rule_set_id="order-62-2016", version=1, title="Order")
        )
        if rule_set_origin:
            self.rule_set = rule_set_told(rule_set_origin)
        self.certificate: EntryKey | None = registry.append(
            resources_pb2.VerificationCertificate(source_unit_id=UNIT, scale_id="C1", certificate_number="SIM-1")
        )
        self.parts = [part(self.manifests[0], PHOTO, "image/jpeg"), part(self.manifests[1], CLIP, "video/mp4")]
        if is_small:
            del self.told[:], self.logs["registry"], self.manifests[1:], self.custody[1:], self.parts[1:]
            self.rule_set = self.certificate = None

    def material(self, **changes: Any) -> Material:
        used = [self.weighing, self.rule_set, self.certificate, *self.manifests, *self.custody]
        keys = {one for one in used if isinstance(one, tuple)} | {(name, COUNTY, 1) for name in self.logs}
        made = {
            "bundle_id": BUNDLE,
            "platform": COUNTY,
            "weighing": self.weighing,
            "rule_set": self.rule_set,
            "certificate": self.certificate,
            "evidence": self.parts,
            "custody": self.custody,
            "custody_unproven": self.told,
            "entries": {key: self.logs[key[0]].proven(key[2]) for key in keys},
            "checkpoints": {(name, COUNTY): log.checkpoint(cosigned_by=CITY) for name, log in self.logs.items()},
            "keys": [signer(CITY).verifier_key.format()],
        }
        return Material(**(made | changes))

    def pack(self, path: Path, **changes: Any) -> Path:
        pack(path, self.material(**changes))
        return path


def part(manifest: EntryKey, content: bytes, content_type: str) -> EvidencePart:
    def read() -> Iterable[bytes]:
        # In pieces, as they come from a service.
        return (content[start : start + 100] for start in range(0, len(content), 100))

    return EvidencePart(manifest, hashlib.sha256(content).digest(), len(content), content_type, read=read)
