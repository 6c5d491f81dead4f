"""The check of what is kept: nothing lost or changed, all of it read again within its time, compared with the tables,
and nothing in the store that belongs to nobody. As the video service has written it down; reads no evidence itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cli.doctor.database import KnownEvidence, read_evidence
from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.settings import Check
from cli.doctor.subject import Subject
from services.common.china_time import day_in_china

NAME: Final = "evidence"

CHECK_AGE_WARN: Final = timedelta(days=45)
COMPARISON_AGE_WARN: Final = timedelta(days=3)
ORPHANS_WARN: Final = 100
"""All three as of the alarms (docs/operate/metrics.md): a round of the scrubber may take six weeks, the comparison is
made daily, and some orphans are what kills leave behind."""

_LOG: Final = Text("see the log of the video service", "查看视频服务日志")


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield this check with its name."""
    yield NAME, lambda: check_evidence(subject)


def check_evidence(subject: Subject) -> Finding:
    """Look at what the video service has found out about the evidence that it keeps."""
    if "video" not in subject.services:
        return skip("the video service is not looked at here", "此处不含视频服务")
    url = subject.database_urls.get("video") or subject.environment.get("ZHICHAO_VIDEO_DATABASE_URL", "")
    known = read_evidence(url)
    if known is None:
        return skip("its database cannot be asked", "数据库无法查询")
    return judge(known, datetime.now(UTC))


def judge(known: KnownEvidence, now: datetime) -> Finding:
    """Say the worst of what is known."""
    troubles = known.troubles
    if troubles.missing_count + troubles.changed_count:
        return fail(
            Text(
                f"{troubles.missing_count:,} objects are missing, {troubles.changed_count:,} are changed",
                f"缺失 {troubles.missing_count:,} 个文件, 损坏 {troubles.changed_count:,} 个",
            ),
            Text("heal them: docs/operate/evidence.md", "按文档恢复"),
        )
    if troubles.unread_count:
        return warn(
            Text(
                f"{troubles.unread_count:,} objects could not be read though others could",
                f"{troubles.unread_count:,} 个文件暂不可读",
            ),
            Text("look at the disks of the store: after some hours they count as changed", "检查证据库磁盘"),
        )
    compared, oldest = known.scrub.reconcile_time, known.oldest_check_time
    if compared is None:
        return warn(Text("store and tables were never compared to the end", "证据库从未完成核对"), _LOG)
    if now - compared > COMPARISON_AGE_WARN:
        days = (now - compared).days
        return warn(Text(f"store and tables were compared {days} days ago", f"证据库已 {days} 天未核对"), _LOG)
    if oldest is not None and now - oldest > CHECK_AGE_WARN:
        days = (now - oldest).days
        return warn(
            Text(f"some evidence was read {days} days ago and not since", f"有证据文件已 {days} 天未校验"),
            Text(
                "raise ZHICHAO_VIDEO_SCRUB_BYTES_PER_SECOND, or see the log of the video service",
                "提高校验速率或查看视频服务日志",
            ),
        )
    if troubles.orphan_count > ORPHANS_WARN:
        return warn(
            Text(
                f"{troubles.orphan_count:,} objects in the store belong to no manifest",
                f"证据库中有 {troubles.orphan_count:,} 个无清单文件",
            ),
            Text(
                "they go after a week: look first whether the platform was restored (docs/operate/evidence.md)",
                "一周后清除; 若曾恢复备份请先核实",
            ),
        )
    told = "nothing is lost or changed"
    return ok(f"{told}, {_age(oldest, now)}compared {day_in_china(compared)}", "证据完好, 已校验和核对")


def _age(oldest: datetime | None, now: datetime) -> str:
    return "" if oldest is None else f"all read within {(now - oldest).days + 1} days, "
