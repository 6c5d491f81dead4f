"""What the verifier may find wrong, and the result for one log. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What is wrong with a log; the names are part of the JSON output."""

    MISSING = "missing"
    SURPLUS = "surplus"
    NOT_LOG_START = "not_log_start"
    BYTES_CHANGED = "bytes_changed"
    LEAF_CHANGED = "leaf_changed"
    ENTRY_CHANGED = "entry_changed"
    NODE_CHANGED = "node_changed"
    HEAD_CHANGED = "head_changed"
    CHECKPOINT_CHANGED = "checkpoint_changed"
    SIGNATURE_INVALID = "signature_invalid"
    COSIGNATURE_INVALID = "cosignature_invalid"
    PROOF_INVALID = "proof_invalid"
    ADDRESSED_CHANGED = "addressed_changed"
    COPIES_DIFFER = "copies_differ"
    UNREADABLE = "unreadable"


FAULT_TEXTS_ZH = {
    Fault.MISSING: "条目缺失",
    Fault.SURPLUS: "多出条目",
    Fault.NOT_LOG_START: "首条不是本日志的起始条目",
    Fault.BYTES_CHANGED: "条目内容被改",
    Fault.LEAF_CHANGED: "叶摘要被改",
    Fault.ENTRY_CHANGED: "条目内容与叶摘要一同被改",
    Fault.NODE_CHANGED: "树节点被改",
    Fault.HEAD_CHANGED: "日志头(根摘要、密钥)被改",
    Fault.CHECKPOINT_CHANGED: "检查点被改",
    Fault.SIGNATURE_INVALID: "签名无效",
    Fault.COSIGNATURE_INVALID: "联署无效",
    Fault.PROOF_INVALID: "证明无效",
    Fault.ADDRESSED_CHANGED: "受众登记与条目不符",
    Fault.COPIES_DIFFER: "与另一份副本不一致",
    Fault.UNREADABLE: "无法读取",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    detail: str
    first_sequence: int = 0
    """First entry that is bad, or of the run that holds it; 0 when every entry is right and something else is wrong."""
    last_sequence: int = 0
    """Last entry of that run; the first again when it is known exactly."""
    size: int = 0
    """Size of the log that a checkpoint or a root is for; 0 when it is about neither."""

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        if self.first_sequence:
            if self.last_sequence > self.first_sequence:
                return f"{self.first_sequence:,}-{self.last_sequence:,}"
            return f"{self.first_sequence:,}"
        return f"at size {self.size:,}" if self.size else "-"


@dataclass
class LogResult:
    """What became of one log."""

    stream: str
    origin: str
    size: int = 0
    """Entries that the log's head says it has."""
    checked: int = 0
    """Entries whose bytes were hashed."""
    root: bytes = b""
    """Root re-derived from the bytes of `size` entries, or of those that could be checked."""
    is_own: bool = False
    is_addressed: bool = False
    """Whether only what the log addresses to this platform is held, and not the whole log."""
    digest_algorithm: str = "sha256"
    verifier_key: str = ""
    checkpoint_count: int = 0
    """Checkpoints whose root and signatures were checked."""
    cosigners: dict[str, bool | None] = field(default_factory=dict)
    """By platform name: valid, invalid, or None where its key is not known."""
    cosigned_size: int = 0
    """Largest size with a valid cosignature."""
    proof_count: int = 0
    """Inclusion proofs that were checked and valid."""
    compared: int | None = None
    """Entries found equal in another copy; None when there was nothing to compare with."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def first_bad(self) -> Finding | None:
        """The finding with the first bad entry; else the first of the others."""
        return min(self.findings, key=lambda one: (not one.first_sequence, one.first_sequence), default=None)
