"""What commands show of an evidence store: a line beside the services, and all of it. English and Chinese."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from cli.store_figures import StoreFigures
from services.common.china_time import CHINA_TIME

TROUBLES: Final[Mapping[str, str]] = {
    "unavailable": "不可用",
    "full": "已满",
    "bucket-missing": "存储桶缺失",
    "wrong-credentials": "密钥被拒",
    "refused": "被拒绝",
}
LOCKS: Final[Mapping[str, tuple[str, str]]] = {
    "enforced": ("有效", "green"),
    "not-enforced": ("无效", "bold red"),
    "unsupported": ("不支持", "yellow"),
    "unknown": ("未知", "yellow"),
    "": ("未自检", "dim"),
}
NOT_TESTED: Final = "not tested"


def store_line(platform: str, store: StoreFigures) -> Text:
    """Make the line beside those of the services: how the store is, and what it keeps. Fits 80 columns."""
    line = Text(f"{platform} store 证据库 ").append_text(store_state(store))
    if not store.trouble:
        line.append(f"  {store.object_count:,} objects {volume_text(store.object_bytes)}")
        line.append(", lock 锁定 ").append(store.lock_state or NOT_TESTED, _lock(store)[1])
    return line


def store_trouble_lines(platform: str, store: StoreFigures) -> Iterator[str]:
    """Say what is not well with a store, a line each."""
    if store.trouble:
        yield f"{platform} store: {store.trouble_detail or store.trouble}"
    if store.has_losses:
        yield (
            f"{platform} evidence: {store.missing_count:,} objects missing, {store.changed_count:,} changed"
            " 证据文件缺失或损坏"
        )
    if store.lock_state == "not-enforced":
        yield f"{platform} store: takes locks and deletes all the same 对象锁定无效"


def store_state(store: StoreFigures) -> Text:
    """Write how a store is."""
    if store.trouble:
        return Text(f"{store.trouble} {TROUBLES.get(store.trouble, '')}".rstrip(), "bold red")
    return Text("ok 正常", "green") if store.is_reachable else Text("not asked yet 未检查", "dim")


def store_facts(store: StoreFigures) -> Table:
    """Make the description of a store."""
    chinese, style = _lock(store)
    losses = f"{store.missing_count:,} missing 缺失, {store.changed_count:,} changed 损坏"
    if store.unread_count:
        losses += f", {store.unread_count:,} not readable for now 暂不可读"
    rows: list[tuple[str, str | Text]] = [
        ("Store 证据库", f"{store.bucket} at {store.endpoint}"),
        ("State 状态", store_state(store)),
    ]
    if store.trouble:
        rows.append(("Trouble 原因", Text(store.trouble_detail, "red")))
        rows.append(("Seen 发现时间", _moment(store.trouble_time)))
    rows += [
        ("Locks 对象锁定", Text(f"{store.lock_state or NOT_TESTED} {chinese}", style)),
        ("Tested 自检", f"{_moment(store.lock_test_time)} {store.lock_detail}".rstrip()),
        ("Objects 文件", f"{store.object_count:,}, {volume_text(store.object_bytes)}"),
        ("Of these 其中", Text(losses, "bold red") if store.has_losses else losses),
        ("Oldest check 最早校验", _moment(store.oldest_check_time)),
        ("Round ended 上轮校验", _moment(store.scrub_complete_time)),
        ("Compared 核对", _moment(store.reconcile_time)),
        ("Orphans 无清单文件", f"{store.orphan_count:,}"),
        ("Uploads 上传中", f"{store.upload_count:,}, {volume_text(store.upload_bytes)}"),
        ("Wanted 待调取", f"{store.wanted_count:,}"),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def volume_text(count: int) -> str:
    """Write a number of bytes for a person, in units of a thousand as disks are sold."""
    if count < 1_000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1_000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:,.1f} {unit}"


def _lock(store: StoreFigures) -> tuple[str, str]:
    return LOCKS.get(store.lock_state, ("", "yellow"))


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(CHINA_TIME).strftime("%Y-%m-%d %H:%M:%S")
