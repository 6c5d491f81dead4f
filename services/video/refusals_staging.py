"""The refusals of uploads straight to the store, beside those of all uploads (`refusals_uploading`)."""

from collections.abc import Sequence

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.staged_parts import Part, named

BUSY_RETRY_SECONDS = 10.0
"""A clip of some hundred megabytes is read and copied in that time."""


def no_address() -> ServiceError:
    """Refuse because nobody but the services of this platform reaches the store."""
    return ServiceError(
        Reason.NOT_CONFIGURED,
        "this platform has no address of its evidence store that callers reach: upload with UploadEvidence, or set "
        "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT",
        message_zh="本平台未配置可供外部访问的证据库地址，请改用 UploadEvidence 上传",
        metadata={"setting": "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT"},
    )


def incomplete(missing: Sequence[Part]) -> ServiceError:
    """Refuse to seal what is not all there; what is there is kept."""
    numbers = named(missing)
    return ServiceError(
        Reason.UPLOAD_INCOMPLETE,
        f"{len(missing)} parts are missing ({numbers}): get their addresses with PrepareUpload and put them; what is "
        "there is kept",
        message_zh=f"缺少 {len(missing)} 个分片（{numbers}），请用 PrepareUpload 获取地址后补传，已上传的分片保留",
        metadata={"parts": numbers},
    )


def too_many(limit: int) -> ServiceError:
    """Refuse because as many uploads are checked as this service has memory for."""
    return ServiceError(
        Reason.TOO_MANY_REQUESTS,
        f"{limit} uploads are checked now, which is the limit of this service: call again, what is put is kept",
        message_zh=f"正在校验的上传已达上限 {limit}，已上传的数据保留，请稍后重试",
        metadata={"limit": str(limit)},
        retry_after_seconds=BUSY_RETRY_SECONDS,
    )
