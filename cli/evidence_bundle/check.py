"""Checks a bundle offline: every byte of the file, every leaf, every proof, every signature, and that what it holds
belongs together. Shares no code with what writes journals; the digests, trees and notes are those of the verifier.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.evidence_bundle.archive import Archive, NotABundleError
from cli.evidence_bundle.contents import Contents, check_contents
from cli.evidence_bundle.findings import Finding
from cli.evidence_bundle.index import (
    COMMENT_PREFIX,
    ENTRY_BYTES_MAX,
    INDEX_BYTES_MAX,
    INDEX_NAME,
    README,
    README_NAME,
    Index,
    ProvenEntry,
    UnreadableIndexError,
)
from cli.verifier.check import read_log_start
from cli.verifier.notes import Note, PublicKey, UnreadableNoteError
from cli.verifier.tree import Hashes, root_of_path

FINDINGS_MAX: Final = 100
"""Kept of one bundle; a changed index may touch every file."""

NOTE_BYTES_MAX: Final = 64 * 1024
"""A checkpoint takes some hundred bytes and a line for each platform above."""

ENTRIES_BYTES_MAX: Final = 64 * 1024 * 1024
"""All entries of a bundle, which are kept while it is checked: twenty times what three thousand usual ones have."""

LOG_SIZE_MAX: Final = 2**63 - 1
"""Sequences are 64-bit integers with a sign."""

Advance = Callable[[int], None]


@dataclass(slots=True)
class LogFacts:
    """What is known of one log of which entries are in the bundle."""

    name: str
    size: int = 0
    entry_count: int = 0
    verifier_key: str = ""
    is_pinned: bool = False
    """Whether the key that signed is one that was given to the checker."""
    cosigners: dict[str, bool | None] = field(default_factory=dict)
    """By name: valid, invalid, or None where the key is not known."""
    pinned_cosigners: set[str] = field(default_factory=set)
    cosigner_keys: set[str] = field(default_factory=set)
    """Keys by which cosignatures are valid: as given, or else as they stand in the bundle."""


@dataclass(slots=True)
class BundleCheck:
    """What became of one bundle."""

    size: int = 0
    file_count: int = 0
    proof_count: int = 0
    index: Index | None = None
    logs: list[LogFacts] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return self.index is not None and not self.findings

    def note(self, place: str, detail: str) -> None:
        """Keep a finding."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(place, detail))


def check_bundle(path: Path, keys: Sequence[PublicKey] = (), advance: Advance = lambda count: None) -> BundleCheck:
    """Check a bundle. `keys` are known to be those of their platforms. Raises OSError.

    Whatever is in the file ends in findings; `advance` hears of the bytes that were read.
    """
    check = BundleCheck()
    try:
        with Archive.open(path) as archive:
            check.size = archive.size
            check.file_count = len(archive.members)
            check.findings += archive.findings[:FINDINGS_MAX]
            index = _check_index(archive, check)
            if index is not None:
                check.index = index
                _Check(archive, index, keys, check).run(advance)
    except NotABundleError as error:
        check.size = path.stat().st_size
        check.note(str(path), str(error))
    return check


def _check_index(archive: Archive, check: BundleCheck) -> Index | None:
    content = archive.content(INDEX_NAME, INDEX_BYTES_MAX)
    if content is None:
        check.note(INDEX_NAME, "is not there, or too large 缺少目录, 或目录过大")
        return None
    if archive.comment != COMMENT_PREFIX + hashlib.sha256(content).hexdigest().encode():
        check.note(
            f"{INDEX_NAME}, comment 注释",
            "the index is not the one whose digest ends the file 目录与文件末尾的摘要不符",
        )
    try:
        return Index.from_json(content)
    except UnreadableIndexError as error:
        check.note(INDEX_NAME, str(error))
        return None


class _Check:
    def __init__(self, archive: Archive, index: Index, keys: Sequence[PublicKey], check: BundleCheck) -> None:
        self._archive = archive
        self._index = index
        self._pinned = {key.name: key for key in keys}
        self._check = check
        # By name of their file: what is proven to be in its log.
        self._proven: dict[str, tuple[ProvenEntry, bytes]] = {}

    def run(self, advance: Advance) -> None:
        """Check everything."""
        digests = self._check_files(advance)
        keys = self._read_keys()
        members = self._archive.members
        if sum(members[one.file].size for one in self._index.entries if one.file in members) > ENTRIES_BYTES_MAX:
            self._check.note(INDEX_NAME, f"its entries have more than {ENTRIES_BYTES_MAX:,} bytes 条目过大")
            return
        known = [one.file for one in self._index.entries]
        if len(set(known)) != len(known):
            self._check.note(INDEX_NAME, "names an entry twice 条目重复")
        for log in self._index.logs:
            self._check_log(log.stream, log.origin, log.checkpoint, log.start, keys)
        names = [(log.stream, log.origin) for log in self._index.logs]
        if len(set(names)) != len(names):
            self._check.note(INDEX_NAME, "names a log twice 日志重复")
        for entry in self._index.entries:
            if (entry.stream, entry.origin) not in names:
                self._check.note(entry.file, "is of a log of which no checkpoint is there 缺少所属日志的检查点")
        check_contents(self._archive, self._index, self._proven, digests, self._check.contents, self._check.note)

    # Bytes

    def _check_files(self, advance: Advance) -> Mapping[str, str]:
        """Compare every file with the index; return the digests as they are."""
        check, archive = self._check, self._archive
        listed = {one.name: one for one in self._index.files}
        if len(listed) != len(self._index.files):
            check.note(INDEX_NAME, "lists a file twice 文件重复")
        if list(archive.members) != [one.name for one in self._index.files] + [INDEX_NAME]:
            check.note("archive 归档", "holds other files than its index lists, or in another order 文件与目录不一致")
        digests = {}
        for name, member in archive.members.items():
            digest = archive.digest(name, advance)
            digests[name] = digest.sha256
            if digest.crc != member.crc:
                check.note(name, "its bytes do not have the checksum in the archive 内容与归档校验值不符")
            if name == INDEX_NAME:
                continue
            stated = listed.get(name)
            if stated is None:
                check.note(name, "is not in the index 不在目录中")
            elif (member.size, digest.sha256) != (stated.size_bytes, stated.sha256):
                check.note(name, "its bytes are others than those that were exported 内容被改")
        for name in listed:
            if name not in archive.members:
                check.note(name, "is in the index and not in the archive 目录所列文件缺失")
        if archive.content(README_NAME, len(README.encode())) != README.encode():
            check.note(README_NAME, "is not the text that stands in every bundle 说明文字被改")
        return digests

    # Logs

    def _read_keys(self) -> list[PublicKey]:
        """Return the keys that cosignatures are checked with: those given, and those of the bundle where none is."""
        keys = list(self._pinned.values())
        for text in self._index.keys:
            try:
                key = PublicKey.read(text)
            except UnreadableNoteError as error:
                self._check.note(INDEX_NAME, f"a key cannot be read: {error} 公钥无法读取")
                continue
            known = self._pinned.get(key.name)
            if known is None:
                keys.append(key)
            elif known != key:
                self._check.note(INDEX_NAME, f"holds another key of {key.name} than the one given 公钥与指定的不同")
        return keys

    def _check_log(self, stream: str, origin: str, checkpoint: str, start: str, keys: Sequence[PublicKey]) -> None:
        check = self._check
        facts = LogFacts(f"{stream} {origin}")
        check.logs.append(facts)
        begun = next((one for one in self._index.entries if one.file == start), None)
        start_bytes = self._archive.content(start, ENTRY_BYTES_MAX)
        note_bytes = self._archive.content(checkpoint, NOTE_BYTES_MAX)
        log_start = read_log_start(start_bytes) if start_bytes is not None else None
        if begun is None or log_start is None or note_bytes is None or begun.sequence != 1:
            check.note(start or INDEX_NAME, f"entry 1 or the checkpoint of {facts.name} is not there 缺少首条或检查点")
            return
        try:
            hashes = Hashes(log_start.digest_algorithm)
            owner = PublicKey.read(log_start.verifier_key)
            note = Note.read(note_bytes.decode("utf-8"))
        except (UnreadableNoteError, ValueError) as error:
            check.note(checkpoint, f"checkpoint and entry 1 of {facts.name} cannot be read: {error} 无法读取")
            return
        if note.size > LOG_SIZE_MAX:
            check.note(checkpoint, "is for more entries than a log can have 日志长度无效")
            return
        facts.verifier_key, facts.size = log_start.verifier_key, note.size
        if (log_start.origin, log_start.stream) != (origin, stream):
            check.note(start, f"begins the {log_start.stream[:32]} log of {log_start.origin[:32]} 首条属于另一日志")
        if owner.name != f"zhichao/{origin}":
            check.note(start, f"its key is of {owner.name[:64]} 公钥属于另一平台")
        if note.log_name != f"zhichao/{origin}/{stream}":
            check.note(checkpoint, f"is for {note.log_name[:80]} 检查点属于另一日志")
        self._check_signatures(checkpoint, note, owner, keys, facts)
        for entry in self._index.entries:
            if (entry.stream, entry.origin) == (stream, origin):
                self._check_entry(entry, hashes, note, facts)

    def _check_signatures(
        self, checkpoint: str, note: Note, owner: PublicKey, keys: Sequence[PublicKey], facts: LogFacts
    ) -> None:
        check = self._check
        pinned = self._pinned.get(owner.name)
        facts.is_pinned = pinned == owner
        if pinned is not None and pinned != owner:
            check.note(checkpoint, f"is of another key of {owner.name} than the one given 签名公钥与指定的不同")
        if note.is_signed_by(owner) is not True:
            check.note(checkpoint, f"is not signed with the key of entry 1, {facts.verifier_key} 检查点签名无效")
        facts.cosigners = dict(note.cosigners([*keys, owner], owner))
        facts.cosigner_keys = {key.text() for key in note.cosigning_keys([*keys, owner], owner)}
        for name, is_valid in facts.cosigners.items():
            if is_valid is False:
                check.note(checkpoint, f"the cosignature of {name[:64]} is not valid 联署无效")
            elif is_valid is None and name in self._pinned:
                check.note(
                    checkpoint, f"was cosigned with another key of {name} than the one given 联署公钥与指定的不同"
                )
            elif is_valid and name in self._pinned:
                facts.pinned_cosigners.add(name)

    def _check_entry(self, entry: ProvenEntry, hashes: Hashes, note: Note, facts: LogFacts) -> None:
        check = self._check
        content = self._archive.content(entry.file, ENTRY_BYTES_MAX)
        if content is None:
            check.note(entry.file, "is not there, or too large 缺失或过大")
            return
        leaf = hashes.leaf(content)
        if leaf.hex() != entry.leaf:
            check.note(entry.file, "does not have the leaf digest that the index names 叶摘要与目录不符")
        try:
            path = [bytes.fromhex(node) for node in entry.path]
        except ValueError:
            check.note(entry.file, "its path cannot be read 证明路径无法读取")
            return
        if any(len(node) != len(leaf) for node in path):
            check.note(entry.file, "its path holds something that is no digest 证明路径无效")
            return
        if root_of_path(hashes, leaf, entry.sequence - 1, note.size, path) != note.root:
            check.note(
                entry.file,
                f"is not entry {entry.sequence:,} of the {facts.name} log of {note.size:,} entries 不在该日志中",
            )
            return
        facts.entry_count += 1
        check.proof_count += 1
        self._proven[entry.file] = (entry, content)
