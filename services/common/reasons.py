"""The catalogue of reasons for which a call or an item of a batch is refused: the proto enum
`zhichao.common.v1.ErrorReason` with its gRPC status and a title in English and Chinese. `docs/errors.md` shows
it to people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """One reason of the catalogue; the value is the name in the proto without the prefix `ERROR_REASON_`."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - a reason, not a credential
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    RESOURCE_EXISTS = "RESOURCE_EXISTS"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    NOT_OWNED = "NOT_OWNED"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    INTERNAL = "INTERNAL"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    REFERENCE_NOT_FOUND = "REFERENCE_NOT_FOUND"

    UNKNOWN_SOURCE_UNIT = "UNKNOWN_SOURCE_UNIT"
    UNKNOWN_WEIGHING_POINT = "UNKNOWN_WEIGHING_POINT"
    UNKNOWN_SCALE = "UNKNOWN_SCALE"
    NO_RULE_SET = "NO_RULE_SET"
    RECORD_CONFLICT = "RECORD_CONFLICT"
    TOO_MANY_CONFLICTS = "TOO_MANY_CONFLICTS"

    SEQUENCE_GAP = "SEQUENCE_GAP"
    HISTORY_MISMATCH = "HISTORY_MISMATCH"
    INVALID_CHECKPOINT = "INVALID_CHECKPOINT"
    UNKNOWN_SIGNER = "UNKNOWN_SIGNER"
    UNKNOWN_LOG = "UNKNOWN_LOG"
    BEYOND_LOG = "BEYOND_LOG"
    INCOMPATIBLE_VERSION = "INCOMPATIBLE_VERSION"
    ORIGIN_NOT_ALLOWED = "ORIGIN_NOT_ALLOWED"
    ENTRY_TOO_LARGE = "ENTRY_TOO_LARGE"
    NOT_CONFIGURED = "NOT_CONFIGURED"
    RECOVERING = "RECOVERING"

    NO_CREDENTIALS = "NO_CREDENTIALS"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    CREDENTIAL_EXPIRED = "CREDENTIAL_EXPIRED"
    CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
    PERMISSION_MISSING = "PERMISSION_MISSING"
    OUTSIDE_SCOPE = "OUTSIDE_SCOPE"
    RATE_LIMITED = "RATE_LIMITED"
    AUTHENTICATION_DELAYED = "AUTHENTICATION_DELAYED"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    ACCESS_UNKNOWN = "ACCESS_UNKNOWN"
    ROLES_CONFLICT = "ROLES_CONFLICT"
    PLATFORM_NOT_REGISTERED = "PLATFORM_NOT_REGISTERED"
    LAST_ADMINISTRATOR = "LAST_ADMINISTRATOR"
    OWN_CREDENTIAL = "OWN_CREDENTIAL"
    CREDENTIAL_ENDED = "CREDENTIAL_ENDED"

    NOT_RECIPIENT = "NOT_RECIPIENT"
    NOTICE_WITHDRAWN = "NOTICE_WITHDRAWN"

    EVIDENCE_CONFLICT = "EVIDENCE_CONFLICT"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    CONTENT_REFUSED = "CONTENT_REFUSED"
    OFFSET_MISMATCH = "OFFSET_MISMATCH"
    UPLOAD_BUSY = "UPLOAD_BUSY"
    UPLOAD_INCOMPLETE = "UPLOAD_INCOMPLETE"
    UPLOAD_SPACE_EXHAUSTED = "UPLOAD_SPACE_EXHAUSTED"
    OBJECT_STORE_UNAVAILABLE = "OBJECT_STORE_UNAVAILABLE"
    BYTES_NOT_HERE = "BYTES_NOT_HERE"
    EVIDENCE_MISSING = "EVIDENCE_MISSING"
    EVIDENCE_CHANGED = "EVIDENCE_CHANGED"
    RETENTION_SHORTENED = "RETENTION_SHORTENED"
    BYTES_EXPIRED = "BYTES_EXPIRED"
    BYTES_NOT_WANTED = "BYTES_NOT_WANTED"
    BEYOND_END = "BEYOND_END"


@dataclass(frozen=True, slots=True)
class ReasonSpec:
    """What is fixed about a reason: its gRPC status, its titles, and whether the same call may succeed later."""

    status: str
    title_en: str
    title_zh: str
    is_retryable: bool = False


SPECS: Mapping[Reason, ReasonSpec] = MappingProxyType(
    {
        # Any service
        Reason.INVALID_ARGUMENT: ReasonSpec("INVALID_ARGUMENT", "A field is not valid", "字段不符合要求"),
        Reason.INVALID_PAGE_TOKEN: ReasonSpec("INVALID_ARGUMENT", "The page token is not valid", "分页令牌无效"),
        Reason.BATCH_TOO_LARGE: ReasonSpec("INVALID_ARGUMENT", "The batch has too many items", "批次条数超出上限"),
        Reason.NOT_FOUND: ReasonSpec("NOT_FOUND", "The resource does not exist", "资源不存在"),
        Reason.RESOURCE_EXISTS: ReasonSpec(
            "ALREADY_EXISTS", "The id is taken by other content", "编号已存在且内容不同"
        ),
        Reason.ETAG_MISMATCH: ReasonSpec("ABORTED", "The resource has changed since it was read", "资源已被他人修改"),
        Reason.NOT_OWNED: ReasonSpec(
            "FAILED_PRECONDITION", "The resource belongs to another platform", "资源归属其他平台"
        ),
        Reason.DATABASE_UNAVAILABLE: ReasonSpec("UNAVAILABLE", "The database is not available", "数据库暂不可用", True),
        Reason.SERVICE_UNAVAILABLE: ReasonSpec(
            "UNAVAILABLE", "A service that is needed is not available", "所依赖的服务暂不可用", True
        ),
        Reason.SHUTTING_DOWN: ReasonSpec("UNAVAILABLE", "The server is stopping", "服务正在停止", True),
        Reason.TOO_MANY_REQUESTS: ReasonSpec("RESOURCE_EXHAUSTED", "Too many calls at once", "并发请求超出上限", True),
        Reason.INTERNAL: ReasonSpec("INTERNAL", "The server has a fault", "服务内部错误"),
        Reason.DEADLINE_EXCEEDED: ReasonSpec("DEADLINE_EXCEEDED", "The deadline has passed", "请求超时", True),
        Reason.REFERENCE_NOT_FOUND: ReasonSpec(
            "FAILED_PRECONDITION", "A resource that is referred to does not exist", "所引用的资源不存在"
        ),
        # Weighing
        Reason.UNKNOWN_SOURCE_UNIT: ReasonSpec(
            "FAILED_PRECONDITION", "The source unit is not registered", "源头单位未登记"
        ),
        Reason.UNKNOWN_WEIGHING_POINT: ReasonSpec(
            "FAILED_PRECONDITION", "The weighing point is not registered", "称重点未登记"
        ),
        Reason.UNKNOWN_SCALE: ReasonSpec("FAILED_PRECONDITION", "The scale is not registered", "衡器未登记"),
        Reason.NO_RULE_SET: ReasonSpec(
            "FAILED_PRECONDITION", "The unit's rule set is not held here", "本平台没有该单位的判定规则"
        ),
        Reason.RECORD_CONFLICT: ReasonSpec(
            "ALREADY_EXISTS", "The record id is held with other content", "记录编号已存在且内容不同"
        ),
        Reason.TOO_MANY_CONFLICTS: ReasonSpec(
            "RESOURCE_EXHAUSTED", "Too many conflicting records under one id", "同一编号的冲突记录过多"
        ),
        # Journal and relay
        Reason.SEQUENCE_GAP: ReasonSpec("OUT_OF_RANGE", "Entries before the first one are missing", "条目序号不连续"),
        Reason.HISTORY_MISMATCH: ReasonSpec("DATA_LOSS", "Two different histories exist", "历史记录不一致"),
        Reason.INVALID_CHECKPOINT: ReasonSpec("INVALID_ARGUMENT", "The checkpoint proves nothing here", "检查点无效"),
        Reason.UNKNOWN_SIGNER: ReasonSpec("PERMISSION_DENIED", "The log began with another key", "签名密钥与日志不符"),
        Reason.UNKNOWN_LOG: ReasonSpec("NOT_FOUND", "The log is not held here", "本平台没有该日志"),
        Reason.BEYOND_LOG: ReasonSpec("OUT_OF_RANGE", "The position lies beyond the log", "位置超出日志范围"),
        Reason.INCOMPATIBLE_VERSION: ReasonSpec(
            "FAILED_PRECONDITION", "The two sides share no protocol version", "双方没有共同的协议版本"
        ),
        Reason.ORIGIN_NOT_ALLOWED: ReasonSpec(
            "PERMISSION_DENIED", "The peer may not push this origin", "对端无权上报该来源的数据"
        ),
        Reason.ENTRY_TOO_LARGE: ReasonSpec(
            "INVALID_ARGUMENT", "An entry or a batch is too large", "条目或批次字节数超出上限"
        ),
        Reason.NOT_CONFIGURED: ReasonSpec(
            "FAILED_PRECONDITION", "The platform is not configured for this call", "平台未配置该项功能"
        ),
        Reason.RECOVERING: ReasonSpec(
            "UNAVAILABLE", "The service was restored and does not write yet", "服务由备份恢复，尚未核对，暂不写入", True
        ),
        # Access
        Reason.NO_CREDENTIALS: ReasonSpec("UNAUTHENTICATED", "The call carries no credentials", "未提供身份凭证"),
        Reason.INVALID_CREDENTIALS: ReasonSpec("UNAUTHENTICATED", "The credentials are not valid here", "身份凭证无效"),
        Reason.CREDENTIAL_EXPIRED: ReasonSpec("UNAUTHENTICATED", "The credential has ended", "身份凭证已过期"),
        Reason.CREDENTIAL_REVOKED: ReasonSpec("UNAUTHENTICATED", "The credential was revoked", "身份凭证已吊销"),
        Reason.PERMISSION_MISSING: ReasonSpec("PERMISSION_DENIED", "The caller lacks the permission", "没有所需权限"),
        Reason.OUTSIDE_SCOPE: ReasonSpec(
            "PERMISSION_DENIED", "The request reaches beyond the caller's units or division", "超出授权的单位或区划范围"
        ),
        Reason.RATE_LIMITED: ReasonSpec("RESOURCE_EXHAUSTED", "The caller sends too much", "请求速率超出限额", True),
        Reason.AUTHENTICATION_DELAYED: ReasonSpec(
            "RESOURCE_EXHAUSTED", "Too many attempts with wrong credentials", "身份验证失败次数过多，请稍后再试", True
        ),
        Reason.MESSAGE_TOO_LARGE: ReasonSpec("INVALID_ARGUMENT", "The message is too large", "消息字节数超出上限"),
        Reason.MALFORMED_MESSAGE: ReasonSpec("INVALID_ARGUMENT", "The message cannot be read", "消息无法解析"),
        Reason.ACCESS_UNKNOWN: ReasonSpec(
            "UNAVAILABLE", "The service does not know who may do what", "服务暂时无法核验权限", True
        ),
        Reason.ROLES_CONFLICT: ReasonSpec(
            "FAILED_PRECONDITION",
            "Administrators' roles exclude each other",
            "系统管理员、安全管理员、审计员角色不得兼任",
        ),
        Reason.PLATFORM_NOT_REGISTERED: ReasonSpec(
            "PERMISSION_DENIED", "The peer's platform is not registered below this one", "对端平台未登记为本平台下级"
        ),
        Reason.LAST_ADMINISTRATOR: ReasonSpec(
            "FAILED_PRECONDITION", "No security administrator would be left", "本平台须至少保留一名安全管理员"
        ),
        Reason.OWN_CREDENTIAL: ReasonSpec(
            "PERMISSION_DENIED", "Nobody changes what their own credential may do", "不得变更本人凭证的权限"
        ),
        Reason.CREDENTIAL_ENDED: ReasonSpec(
            "FAILED_PRECONDITION", "The credential was revoked or has ended", "凭证已吊销或已到期"
        ),
        # Enforcement
        Reason.NOT_RECIPIENT: ReasonSpec(
            "FAILED_PRECONDITION", "This platform is not asked to respond", "本平台不在应答范围内"
        ),
        Reason.NOTICE_WITHDRAWN: ReasonSpec("FAILED_PRECONDITION", "The notice was taken back", "通报已撤回"),
        # Video
        Reason.EVIDENCE_CONFLICT: ReasonSpec(
            "ALREADY_EXISTS", "The evidence id is sealed with other content", "证据编号已封存且内容不同"
        ),
        Reason.DIGEST_MISMATCH: ReasonSpec(
            "INVALID_ARGUMENT", "The bytes are not those of the digest", "数据与摘要不符"
        ),
        Reason.CONTENT_REFUSED: ReasonSpec(
            "INVALID_ARGUMENT", "The bytes are not what they are said to be", "文件内容与声明的类型不符"
        ),
        Reason.OFFSET_MISMATCH: ReasonSpec("OUT_OF_RANGE", "The bytes begin at another place", "数据起始位置不符"),
        Reason.UPLOAD_BUSY: ReasonSpec("ABORTED", "Another call uploads the same evidence", "同一证据正在上传", True),
        Reason.UPLOAD_INCOMPLETE: ReasonSpec(
            "FAILED_PRECONDITION", "Parts of the upload are missing", "上传分片不完整"
        ),
        Reason.UPLOAD_SPACE_EXHAUSTED: ReasonSpec(
            "RESOURCE_EXHAUSTED", "There is no room for more uploads", "暂存空间不足", True
        ),
        Reason.OBJECT_STORE_UNAVAILABLE: ReasonSpec(
            "UNAVAILABLE", "The evidence store is not available", "证据库暂不可用", True
        ),
        Reason.BYTES_NOT_HERE: ReasonSpec(
            "FAILED_PRECONDITION", "The bytes are held by a platform below", "证据文件在下级平台，请先调取"
        ),
        Reason.EVIDENCE_MISSING: ReasonSpec("DATA_LOSS", "The store has lost the bytes", "证据文件缺失"),
        Reason.EVIDENCE_CHANGED: ReasonSpec("DATA_LOSS", "The store holds other bytes", "证据文件与摘要不符"),
        Reason.RETENTION_SHORTENED: ReasonSpec(
            "FAILED_PRECONDITION", "Evidence is never kept shorter", "保存期限不得缩短"
        ),
        Reason.BYTES_EXPIRED: ReasonSpec(
            "FAILED_PRECONDITION", "The bytes were deleted after their retention", "证据文件已到期删除"
        ),
        Reason.BYTES_NOT_WANTED: ReasonSpec(
            "FAILED_PRECONDITION", "Nobody has asked for these bytes", "未请求该证据文件"
        ),
        Reason.BEYOND_END: ReasonSpec("OUT_OF_RANGE", "The offset lies beyond the end", "位置超出文件长度"),
    }
)
