"""The refusals of whoever looks at evidence or keeps it, worded in one place: what is wrong, and what can be done."""

from datetime import datetime

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.custody import CustodyAction, shown_time
from services.video.domain import Name

READS_RETRY_SECONDS = 2.0
"""Who finds all places taken comes again after this: most reads are through by then."""


def not_found(name: Name) -> ServiceError:
    """Refuse because no such manifest is held here."""
    return ServiceError(
        Reason.NOT_FOUND,
        f"evidence {name} is not held here",
        message_zh=f"本平台没有证据 {name}",
        metadata={"resource_type": "evidence", "resource_id": str(name)},
    )


def no_preview(name: Name, rendition: str) -> ServiceError:
    """Refuse a picture that was not made, or is lost: it proves nothing, and the original is read instead."""
    return ServiceError(
        Reason.NOT_FOUND,
        f"there is no {rendition} of evidence {name} here: read the original",
        message_zh=f"证据 {name} 没有预览图，请读取原件",
        metadata={"resource_type": "preview", "resource_id": str(name)},
    )


def not_here(name: Name) -> ServiceError:
    """Refuse because a platform below has the bytes."""
    return ServiceError(
        Reason.BYTES_NOT_HERE,
        f"the bytes of evidence {name} are not on this platform: ask for them with FetchEvidence",
        message_zh=f"证据 {name} 的文件不在本平台，请先调取",
        metadata={"origin": name.origin},
    )


def expired(name: Name, delete_time: datetime | None) -> ServiceError:
    """Refuse because the bytes were deleted after their retention; the time is absent when it is not known here."""
    when = f" on {shown_time(delete_time)}" if delete_time is not None else ""
    return ServiceError(
        Reason.BYTES_EXPIRED,
        f"the bytes of evidence {name} were deleted{when}, after their retention: the manifest stays",
        message_zh=f"证据 {name} 的文件已到期删除，仅保留证据清单",
        metadata={"delete_time": shown_time(delete_time) if delete_time is not None else ""},
    )


def damaged(action: CustodyAction, digest: bytes) -> ServiceError:
    """Refuse because the store has lost the bytes, or holds others."""
    if action == CustodyAction.FOUND_CHANGED:
        return ServiceError(
            Reason.EVIDENCE_CHANGED,
            f"the evidence store holds other bytes than {digest.hex()}; the platform's operators have to look into it",
            message_zh=f"证据库中的文件与摘要 {digest.hex()} 不符，请联系平台运维人员",
            metadata={"digest": digest.hex()},
        )
    return missing(digest)


def missing(digest: bytes) -> ServiceError:
    """Refuse because the store has lost the bytes."""
    return ServiceError(
        Reason.EVIDENCE_MISSING,
        f"the evidence store no longer has the bytes {digest.hex()}; the platform's operators have to find them",
        message_zh=f"证据库中已找不到文件 {digest.hex()}，请联系平台运维人员",
        metadata={"digest": digest.hex()},
    )


def beyond_end(offset: int, size_bytes: int) -> ServiceError:
    """Refuse an offset behind the last byte."""
    return ServiceError(
        Reason.BEYOND_END,
        f"offset {offset} lies beyond the end: there are {size_bytes} bytes",
        message_zh=f"起始位置 {offset} 超出文件长度 {size_bytes}",
        metadata={"size_bytes": str(size_bytes)},
    )


def too_many_reads(limit: int) -> ServiceError:
    """Refuse a read because as many go on as this service has memory for."""
    return _come_again(
        f"{limit} reads of evidence are under way, which is the limit of this service: try again shortly",
        f"正在读取证据的请求已达上限 {limit}，请稍后重试",
        {"limit": str(limit)},
    )


def too_many_own_reads(limit: int) -> ServiceError:
    """Refuse a read because its caller has as many under way as one caller may have."""
    return _come_again(
        f"{limit} reads of evidence of yours are under way, which is the limit of one caller: end one first",
        f"您正在读取的证据已达单个调用者上限 {limit}，请先结束其中一个",
        {"limit": str(limit)},
    )


def not_taken(seconds: float) -> ServiceError:
    """End a read whose caller does not take what is sent."""
    return _come_again(
        f"nothing was taken for {seconds:.0f} s, and the place is given to others: read on from where you stand",
        f"{seconds:.0f} 秒内未接收数据，读取已结束，请从当前位置继续",
        {"seconds": f"{seconds:.0f}"},
    )


def _come_again(message: str, message_zh: str, metadata: dict[str, str]) -> ServiceError:
    return ServiceError(
        Reason.TOO_MANY_REQUESTS,
        message,
        message_zh=message_zh,
        metadata=metadata,
        retry_after_seconds=READS_RETRY_SECONDS,
    )


def no_links() -> ServiceError:
    """Refuse a link because nobody but the services of this platform reaches the store."""
    return ServiceError(
        Reason.NOT_CONFIGURED,
        "this platform has no address of its evidence store that callers reach: read the bytes with ReadEvidence, or "
        "set ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT",
        message_zh="本平台未配置可供外部访问的证据库地址，请改用 ReadEvidence 读取",
    )


def other_purpose(hold_id: str) -> ServiceError:
    """Refuse a hold whose id stands already for something else."""
    return ServiceError(
        Reason.RESOURCE_EXISTS,
        f"legal hold {hold_id} stands on this evidence with another purpose, which is kept: choose another id",
        message_zh=f"保全 {hold_id} 已存在且事由不同，保留原记录，请换用其他编号",
        metadata={"resource_type": "legal_hold", "resource_id": hold_id},
    )


def others_bundle(bundle_id: str) -> ServiceError:
    """Refuse an export under the id of a bundle that somebody else made, or for another purpose."""
    return ServiceError(
        Reason.RESOURCE_EXISTS,
        f"evidence was exported as bundle {bundle_id} by somebody else, or for another purpose: choose another id",
        message_zh=f"证据包编号 {bundle_id} 已由他人使用或事由不同，请换用其他编号",
        metadata={"resource_type": "evidence_bundle", "resource_id": bundle_id},
    )


def no_hold(hold_id: str) -> ServiceError:
    """Refuse to release what was never placed."""
    return ServiceError(
        Reason.NOT_FOUND,
        f"there is no legal hold {hold_id} on this evidence",
        message_zh=f"该证据没有编号为 {hold_id} 的保全",
        metadata={"resource_type": "legal_hold", "resource_id": hold_id},
    )


def others_hold(hold_id: str, platform: str) -> ServiceError:
    """Refuse to release what another platform has placed."""
    return ServiceError(
        Reason.NOT_OWNED,
        f"legal hold {hold_id} was placed by platform {platform} and is released only there",
        message_zh=f"保全 {hold_id} 由平台 {platform} 设置，只能由该平台解除",
        metadata={"origin": platform},
    )


def shortened(until_time: datetime, in_force: datetime) -> ServiceError:
    """Refuse a time before the one until which the evidence is kept."""
    return ServiceError(
        Reason.RETENTION_SHORTENED,
        f"the evidence is kept until {shown_time(in_force)}, and {shown_time(until_time)} is before that: retention is "
        "only ever extended",
        message_zh=f"该证据保存至 {shown_time(in_force)}，保存期限只能延长",
        metadata={"retain_until_time": shown_time(in_force)},
    )


def outside_scope(field: str, what: str) -> ServiceError:
    """Refuse what the caller's credential does not cover."""
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        f"{field}: {what}",
        message_zh=f"字段 {field} 超出该凭证的授权范围",
        metadata={"field": field},
    )


def not_for_sites() -> ServiceError:
    """Refuse to tell a site how the platform keeps evidence: where, whether locks hold, and how much is lost."""
    return ServiceError(
        Reason.OUTSIDE_SCOPE,
        "this method is not for callers that are bound to source units",
        message_zh="该方法不适用于限定源头单位的凭证",
        metadata={"field": ""},
    )
