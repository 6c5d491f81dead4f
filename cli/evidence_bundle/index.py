"""The index of a bundle: which files it holds, and what each of them is (docs/evidence-bundle.md). Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

FORM: Final = "zhichao-evidence-bundle/1"
"""Raised when the meaning of a field changes."""

INDEX_NAME: Final = "index.json"
READABLE_NAME: Final = "readable.json"
README_NAME: Final = "readme.txt"

INDEX_BYTES_MAX: Final = 16 * 1024 * 1024
"""An entry takes some 2 kB with its path, and there are at most ENTRIES_MAX."""

EVIDENCE_MAX: Final = 100
"""What one export takes (RecordExport)."""

ENTRIES_MAX: Final = 3_000
"""A hundred manifests, CUSTODY_MAX events, and room for what else is proven."""

CUSTODY_MAX: Final = ENTRIES_MAX // 2
"""Custody events of a bundle, proven or not. The exporter asks for each proof with a call, fifty a second."""

ACTIONS_MAX: Final = 100
"""Kinds of custody events; there are thirteen."""

KEYS_MAX: Final = 1_000

ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024
"""A single entry is always taken, and a batch has at most so many bytes (EntryBatch)."""

TEXT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of the readable form, which is some times what the entries are."""

COMMENT_PREFIX: Final = f"{FORM} sha256:".encode()
COMMENT_BYTES: Final = len(COMMENT_PREFIX) + 64

README: Final = """\
This is an evidence bundle of a Zhichao platform (zhichao-evidence-bundle/1). It proves one weighing and its
photos, clips and documents without the platform:

    zhichao verify FILE.zip

checks every byte, every entry, every proof and every signature offline. Compare the keys that it shows with
those that the platforms have published, or give them with --key. How the bundle is made up, so that anybody can
write a checker: docs/evidence-bundle.md of the project.

Do not unpack it and pack it again: what is checked are the bytes of this file. It may hold personal data.

本文件是治超平台导出的证据包(zhichao-evidence-bundle/1), 可脱离平台离线核验一次称重及其照片、视频和文书:

    zhichao verify 文件.zip

请将核验结果中显示的公钥与各平台公布的公钥比对, 或用 --key 指定。请勿解压后重新打包。其中可能含有个人信息, 请依法保管。

  index.json      what each file is, with its digest 目录与摘要
  readable.json   the entries, to be read by people 条目的可读形式
  entries/        entries of journals, as their origin wrote them 日志条目原始字节
  checkpoints/    signed and cosigned checkpoints of these journals 签名并联署的检查点
  evidence/       photos, clips and documents, named by their SHA-256 证据原始字节
  rule-set.pb     the rule set, if it could not be proven 未附证明的规则集
  unproven/       what platforms above did, as this one was told 上级平台的保管记录, 未附证明
"""
"""Stands in every bundle of this form, word for word."""


class UnreadableIndexError(Exception):
    """The index cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the bundle."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry of a log, and the path that leads from it to the root of the log's checkpoint (RFC 6962, 2.1.1)."""

    file: str
    stream: str
    origin: str
    sequence: int
    leaf: str
    path: Sequence[str]


@dataclass(frozen=True, slots=True)
class LogFiles:
    """A log of which entries are in the bundle: its checkpoint, and its entry 1."""

    stream: str
    origin: str
    checkpoint: str
    start: str


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """One piece of evidence: its manifest, its bytes if they are there, and the state in which the platform had them.

    `HELD` means that they are in the bundle.
    """

    manifest: str
    file: str
    bytes_state: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Custody events for which there was no room."""

    action: str
    """What was done, as `CustodyAction` names it: `VIEWED`."""
    count: int


@dataclass(frozen=True, slots=True)
class Index:
    """What stands in index.json. Files are named by their place in the bundle; empty for one that is not there."""

    bundle_id: str
    platform: str
    weighing: str
    rule_set: str
    rule_set_is_proven: bool
    certificate: str
    evidence: Sequence[EvidenceFiles]
    evidence_left_out: int
    """How many others the exporting platform listed that prove the weighing."""
    custody: Sequence[str]
    custody_unproven: Sequence[str]
    """Events of platforms above, whose logs the exporting platform does not hold."""
    custody_left_out: Sequence[LeftOut]
    """By action. Empty unless there are CUSTODY_MAX events."""
    entries: Sequence[ProvenEntry]
    logs: Sequence[LogFiles]
    keys: Sequence[str]
    files: Sequence[FileEntry] = field(default_factory=tuple)

    def to_json(self) -> bytes:
        """Return the bytes of index.json: JSON with sorted names in ASCII, one way to write each index."""
        return canonical({"form": FORM, **asdict(self)})

    @classmethod
    def from_json(cls, content: bytes) -> "Index":
        """Read what `to_json` made. Raises UnreadableIndexError."""
        try:
            document = json.loads(content.decode("ascii"))
            if not isinstance(document, dict):
                raise UnreadableIndexError("it is no object 不是对象")
            if document.get("form") != FORM:
                raise UnreadableIndexError(f"it is of the form {str(document.get('form'))[:40]!r}, not {FORM} 格式不同")
            index = _read(document)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnreadableIndexError(f"it is no index of a bundle ({type(error).__name__}) 不是证据包目录") from error
        if index.to_json() != content:
            raise UnreadableIndexError("it is not written as a bundle's index is 目录写法不规范")
        return index


def canonical(document: Any) -> bytes:
    """Write a document in the one way of bundles: names sorted, ASCII, one space of indent, a line feed at the end."""
    return (json.dumps(document, ensure_ascii=True, sort_keys=True, indent=1) + "\n").encode("ascii")


def comment(index_sha256: str) -> bytes:
    """Return the comment of the archive, which holds the digest of its index."""
    return COMMENT_PREFIX + index_sha256.encode("ascii")


def _read(document: Mapping[str, Any]) -> Index:
    known = {"form", *Index.__dataclass_fields__}
    if set(document) != known:
        raise ValueError("other fields")
    return Index(
        _text(document["bundle_id"]),
        _text(document["platform"]),
        _text(document["weighing"]),
        _text(document["rule_set"]),
        _truth(document["rule_set_is_proven"]),
        _text(document["certificate"]),
        tuple(
            EvidenceFiles(_text(one["manifest"]), _text(one["file"]), _text(one["bytes_state"]))
            for one in _items(document["evidence"], EVIDENCE_MAX)
        ),
        _count(document["evidence_left_out"]),
        tuple(_text(one) for one in _items(document["custody"], ENTRIES_MAX)),
        tuple(_text(one) for one in _items(document["custody_unproven"], ENTRIES_MAX)),
        tuple(
            LeftOut(_text(one["action"]), _count(one["count"]))
            for one in _items(document["custody_left_out"], ACTIONS_MAX)
        ),
        tuple(
            ProvenEntry(
                _text(one["file"]),
                _text(one["stream"]),
                _text(one["origin"]),
                _count(one["sequence"]),
                _text(one["leaf"]),
                tuple(_text(node) for node in _items(one["path"], 64)),
            )
            for one in _items(document["entries"], ENTRIES_MAX)
        ),
        tuple(
            LogFiles(_text(one["stream"]), _text(one["origin"]), _text(one["checkpoint"]), _text(one["start"]))
            for one in _items(document["logs"], ENTRIES_MAX)
        ),
        tuple(_text(one) for one in _items(document["keys"], KEYS_MAX)),
        tuple(
            FileEntry(_text(one["name"]), _count(one["size_bytes"]), _text(one["sha256"]))
            for one in _items(document["files"], 2 * ENTRIES_MAX)
        ),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a count")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _items(value: Any, items_max: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > items_max:
        raise TypeError("not a list, or too long")
    return value
