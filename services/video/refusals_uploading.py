"""The refusals of uploads, worded in one place: what is wrong, and what the caller can do."""

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.domain import Name
from services.video.media_types import ContentRefused

BUSY_RETRY_SECONDS = 2.0
"""The other call may be about to break off: a client that lost its connection comes again before the server knows."""

SPACE_RETRY_SECONDS = 60.0
"""Uploads end within minutes; a spool that is full of those that broke off, within a day."""

INSPECTION_RETRY_SECONDS = 2.0
"""A process that looks at files and has died is there again at once; one that is busy is done in moments."""

REGISTRY_RETRY_SECONDS = 2.0
"""A registry that restarts is back at once."""


def busy() -> ServiceError:
    """Refuse because another call has the upload."""
    return ServiceError(
        Reason.UPLOAD_BUSY,
        "another call uploads the same evidence now: wait, then ask with GetUpload how far it has come",
        message_zh="同一证据正由另一调用上传，请稍后用 GetUpload 查询进度",
        retry_after_seconds=BUSY_RETRY_SECONDS,
    )


def no_space(limit_bytes: int) -> ServiceError:
    """Refuse because there is no room. What came before is kept, unless the disk was full while it came."""
    return ServiceError(
        Reason.UPLOAD_SPACE_EXHAUSTED,
        "there is no room for the upload now: ask later with GetUpload how far it has come, and send on from there",
        message_zh="暂存空间不足，请稍后用 GetUpload 查询进度后续传",
        metadata={"limit": str(limit_bytes)},
        retry_after_seconds=SPACE_RETRY_SECONDS,
    )


def offset_mismatch(offset: int, expected: int) -> ServiceError:
    """Refuse bytes that do not follow those that are here."""
    return ServiceError(
        Reason.OFFSET_MISMATCH,
        f"the bytes begin at {offset}, but {expected} are here: send on from {expected}",
        message_zh=f"起始位置为 {offset}，已接收 {expected} 字节，请从 {expected} 处续传",
        metadata={"expected_offset": str(expected)},
    )


def ended_early(received: int, size: int) -> ServiceError:
    """Refuse a stream that ended before the last byte; what came is kept."""
    return ServiceError(
        Reason.UPLOAD_INCOMPLETE,
        f"the stream ended after {received} of {size} bytes, which are kept: send on from {received}",
        message_zh=f"共 {size} 字节，仅收到 {received} 字节（已保留），请从 {received} 处续传",
        metadata={"received_bytes": str(received)},
    )


def silent(seconds: float) -> ServiceError:
    """End a call that brought too little for a while; what came is kept. Its caller sees that it was cancelled."""
    return ServiceError(
        Reason.UPLOAD_INCOMPLETE,
        f"hardly anything came for {seconds:.0f} s: ask how far the upload has come, and send on from there",
        message_zh=f"{seconds:.0f} 秒内几乎未收到数据，调用已结束，请查询进度后续传",
    )


def digest_mismatch(expected: bytes, actual: bytes) -> ServiceError:
    """Refuse bytes of another digest."""
    return ServiceError(
        Reason.DIGEST_MISMATCH,
        f"the bytes have the digest {actual.hex()}, the draft says {expected.hex()}: nothing of them is kept, send all "
        "of them again",
        message_zh="数据与摘要不符，已全部丢弃，请重新上传",
        metadata={"expected": expected.hex(), "actual": actual.hex()},
    )


def too_many_bytes(size: int, expected: bytes) -> ServiceError:
    """Refuse bytes beyond the size that the draft says."""
    return ServiceError(
        Reason.DIGEST_MISMATCH,
        f"more than the {size} bytes came that the draft says: nothing of them is kept, send all of them again",
        message_zh=f"收到的数据超过声明的 {size} 字节，已全部丢弃，请重新上传",
        metadata={"expected": expected.hex(), "actual": ""},
    )


def content_refused(error: ContentRefused, content_type: str) -> ServiceError:
    """Refuse bytes that are not what they are said to be."""
    return ServiceError(
        Reason.CONTENT_REFUSED,
        f"{error.message}: nothing of it is kept",
        message_zh=f"{error.message_zh}，未保留",
        metadata={"content_type": content_type, "found": error.found},
    )


def inspection_unavailable() -> ServiceError:
    """Refuse because nothing can be inspected now; what came is kept."""
    return ServiceError(
        Reason.SERVICE_UNAVAILABLE,
        "files cannot be inspected now: what came is kept, call again",
        message_zh="文件检查暂不可用，已接收的数据保留，请稍后重试",
        metadata={"service": "video"},
        retry_after_seconds=INSPECTION_RETRY_SECONDS,
    )


def conflict(name: Name, sequence: int) -> ServiceError:
    """Refuse other content under an id that is sealed."""
    return ServiceError(
        Reason.EVIDENCE_CONFLICT,
        f"evidence {name} is sealed with other content, which stands: choose another id",
        message_zh=f"证据 {name} 已封存且内容不同，保留原内容，请换用其他编号",
        metadata={"evidence_id": name.evidence_id, "origin": name.origin, "sequence": str(sequence)},
    )


def no_upload(name: Name) -> ServiceError:
    """Refuse because nothing of the upload is here."""
    return ServiceError(
        Reason.NOT_FOUND,
        f"nothing of the upload {name} is here: begin at 0",
        message_zh=f"没有证据 {name} 的上传数据，请从头上传",
        metadata={"resource_type": "upload", "resource_id": str(name)},
    )


def outside_units(source_unit_id: str, field: str) -> ServiceError:
    """Refuse evidence of a source unit that the caller does not act for; `field` of the request names it."""
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        f"{field}: {source_unit_id[:64]!r} is not one of yours",
        message_zh=f"字段 {field} 超出授权范围",
        metadata={"field": field},
    )


def unknown_unit(source_unit_id: str) -> ServiceError:
    """Refuse because the registry knows no such source unit."""
    return ServiceError(
        Reason.UNKNOWN_SOURCE_UNIT,
        f"source unit {source_unit_id} is not registered on this platform: register it, then send again",
        message_zh=f"源头单位 {source_unit_id} 未在本平台登记，请先登记",
        metadata={"source_unit_id": source_unit_id},
    )


def registry_away(source_unit_id: str) -> ServiceError:
    """Refuse because nobody can say now whether there is such a source unit."""
    return ServiceError(
        Reason.SERVICE_UNAVAILABLE,
        f"the registry cannot be asked about source unit {source_unit_id}, which is not known here yet: try again",
        message_zh=f"登记服务暂不可用，无法确认源头单位 {source_unit_id}，请稍后重试",
        metadata={"service": "registry"},
        retry_after_seconds=REGISTRY_RETRY_SECONDS,
    )


def locks_not_enforced() -> ServiceError:
    """Refuse because the platform asks for locks that the store has not been found to enforce."""
    return ServiceError(
        Reason.OBJECT_STORE_UNAVAILABLE,
        "the evidence store has not been found to enforce its locks, which this platform requires: nothing is sealed",
        message_zh="证据库对象锁定未通过自检，本平台要求锁定生效，暂不封存",
        retry_after_seconds=SPACE_RETRY_SECONDS,
    )
