"""Checks of one service's database: reachable, of a release that is tested, durable, with the right schema and log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.settings import Check
from cli.doctor.subject import Subject
from cli.platform_layout import SERVICES
from services.common.database import SchemaError, check, translate_errors
from services.common.errors import ServiceError
from services.journal.notes import NoteError, Signer, signer_name
from services.video.store import keeping
from services.video.store.keeping import LockTestRow, ScrubState, Troubles

CONNECT_SECONDS_MAX: Final = 3
"""A database of the same site answers within milliseconds, or a person wants to know that it does not."""

STATEMENT_SECONDS_MAX: Final = 3
"""What is asked takes milliseconds; a database that is locked up shall not hold the doctor."""

TESTED_MAJOR: Final = 18
"""The major version of PostgreSQL that every change is tested with: the bundled one."""

CLOCK_SECONDS_WARN: Final = 1.0
"""Both clocks are read within milliseconds of each other, and NTP keeps them within tens of them."""

CLOCK_SECONDS_FAIL: Final = 30.0
"""Receive times of records and the ends of credentials are minutes off then."""

# What an acknowledgement relies on. Services set `synchronous_commit` themselves, for each of their connections.
_DURABLE: Final = ("fsync", "full_page_writes")


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield the checks of each service with a database."""
    for name in subject.services:
        if not SERVICES[name].has_database:
            continue
        url = subject.database_urls.get(name, "")
        if not url:
            yield f"database {name}", lambda: _unknown(subject)
            continue
        yield f"database {name}", lambda url=url: check_server(url)  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        yield f"schema {name}", lambda url=url, name=name: check_schema(url, name)  # type: ignore[misc]  # as above
        yield f"log {name}", lambda url=url, name=name: check_log(url, subject, name)  # type: ignore[misc]  # as above


@dataclass(frozen=True)
class KnownEvidence:
    """What the video service has found out about its store and written down."""

    test: LockTestRow | None
    troubles: Troubles
    scrub: ScrubState
    # When the held object was checked whose last check is the oldest; None where nothing is held.
    oldest_check_time: datetime | None


def read_evidence(url: str) -> KnownEvidence | None:
    """Return what the video service has found out; None when its database cannot be asked: another check tells."""
    if not url:
        return None
    try:
        with _connect(url) as connection:
            return KnownEvidence(
                keeping.newest_lock_test(connection),
                keeping.count_troubles(connection),
                keeping.read_scrub_state(connection),
                keeping.oldest_check_time(connection),
            )
    except psycopg.Error:
        return None


def _unknown(subject: Subject) -> Finding:
    if subject.is_running is False:
        return skip("its server runs with the platform only", "数据库随平台启动")
    return fail(
        Text("no database URL is known", "未知数据库地址"),
        Text("set ZHICHAO_<SERVICE>_DATABASE_URL", "设置数据库地址"),
    )


def check_server(url: str) -> Finding:
    """Connect, and look at version, durability and clock."""
    try:
        with _connect(url) as connection:
            before = datetime.now(UTC)
            settings = _settings(connection)
            after = datetime.now(UTC)
    except psycopg.Error as error:
        return fail(
            Text(f"cannot be reached: {_first_line(error)}", "数据库无法连接"),
            Text("start the server, or correct the URL", "启动数据库或更正地址"),
        )
    off = [name for name in _DURABLE if settings[name] != "on"]
    if settings["is_in_recovery"] == "true":
        return fail(
            Text("the server is a standby and takes no writes", "数据库为只读备库"),
            Text("name the primary in the URL", "改用主库地址"),
        )
    if off or settings["synchronous_commit"] == "off":
        wrong = ", ".join([*off, *(["synchronous_commit"] if settings["synchronous_commit"] == "off" else [])])
        return fail(
            Text(f"{wrong} is off: what is acknowledged may be lost", "已确认的数据可能丢失"),
            Text(f"turn it on: {wrong}", "开启该参数"),
        )
    skew = _skew_seconds(datetime.fromisoformat(settings["clock"]), before, after)
    told = f"PostgreSQL {settings['server_version']}, clock {skew:+.3f} s"
    clock_remedy = Text("run NTP on both machines", "两台机器均应启用 NTP")
    if abs(skew) > CLOCK_SECONDS_FAIL:
        return fail(Text(told, f"时钟相差 {skew:+.1f} 秒"), clock_remedy)
    if abs(skew) > CLOCK_SECONDS_WARN:
        return warn(Text(told, f"时钟相差 {skew:+.1f} 秒"), clock_remedy)
    if int(settings["server_version_num"]) // 10_000 != TESTED_MAJOR:
        return warn(
            Text(f"{told}; tested is {TESTED_MAJOR}", f"未经测试的版本, 已测试 {TESTED_MAJOR}"),
            Text(f"move to PostgreSQL {TESTED_MAJOR}", f"迁移到 PostgreSQL {TESTED_MAJOR}"),
        )
    return ok(told, "数据库可用")


def check_schema(url: str, service: str) -> Finding:
    """Compare the schema with the migrations of this release."""
    try:
        with translate_errors():
            check(url, SERVICES[service].migrations_package)
    except SchemaError as error:
        return fail(
            Text(str(error), "数据库结构与版本不符"),
            Text(f"python -m services migrate {service}", "执行迁移"),
        )
    except (ServiceError, psycopg.Error) as error:
        return fail(
            Text(f"cannot be looked at: {_first_line(error)}", "无法查看"), Text("see the database", "见数据库一项")
        )
    return ok("is that of this release", "结构与版本一致")


def check_log(url: str, subject: Subject, service: str) -> Finding:
    """Look at the service's journal: whose it is, signed with our key, nothing parked, nothing that waits."""
    try:
        with _connect(url) as connection:
            own = connection.execute(
                "SELECT origin, size, verifier_key, to_jsonb(l) ->> 'is_recovering' FROM journal_logs l WHERE is_own"
            ).fetchone()
            row = connection.execute("SELECT count(*) FROM journal_parked").fetchone()
    except psycopg.Error as error:
        return fail(
            Text(f"cannot be read: {_first_line(error)}", "日志无法读取"), Text("see the database", "见数据库一项")
        )
    parked = int(row[0]) if row else 0
    if own is None:
        return warn(
            Text("not begun: the service has not started yet", "日志尚未开始"), Text("start the service", "启动服务")
        )
    origin, size, key, is_recovering = own
    if origin != subject.platform:
        return fail(
            Text(f"it is the log of platform {origin}", f"属于平台 {origin}"),
            Text("give each platform a database of its own", "各平台使用各自的数据库"),
        )
    our_key = _our_key(subject)
    if our_key and our_key != key:
        return fail(
            Text(f"it began with the key {key}, the key file holds {our_key}", "签名密钥与日志不符"),
            Text("put the key file of this platform back", "放回本平台的签名密钥"),
        )
    if is_recovering == "true":
        return warn(
            Text("restored from a backup and not yet compared with the platform above", "由备份恢复, 尚未与上级核对"),
            Text("see the link; nothing new is written until then", "检查上行链路, 核对前不写入"),
        )
    if parked:
        return warn(
            Text(f"{size:,} entries, {parked:,} parked", f"{parked:,} 条搁置"),
            Text("zhichao relay parked shows why; upgrade, then zhichao relay replay", "查看原因, 升级后重放"),
        )
    return ok(f"{size:,} entries, none parked", "日志正常, 无搁置")


def _our_key(subject: Subject) -> str:
    path = subject.environment.get("ZHICHAO_SIGNING_KEY_FILE", "")
    try:
        return Signer.from_pem_file(signer_name(subject.platform), Path(path)).verifier_key.format() if path else ""
    except (NoteError, OSError):
        # Told by the check of the key.
        return ""


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        url.replace("postgresql+psycopg://", "postgresql://", 1),
        connect_timeout=CONNECT_SECONDS_MAX,
        application_name="zhichao-doctor",
        options=f"-c statement_timeout={STATEMENT_SECONDS_MAX * 1000} -c default_transaction_read_only=on",
        autocommit=True,
    )


def _settings(connection: psycopg.Connection[Any]) -> Mapping[str, str]:
    names = (*_DURABLE, "server_version", "server_version_num", "synchronous_commit")
    row = connection.execute(
        "SELECT jsonb_object_agg(name, setting)"
        " || jsonb_build_object('clock', clock_timestamp(), 'is_in_recovery', pg_is_in_recovery()::text)"
        " FROM pg_settings WHERE name = ANY(%s)",
        (list(names),),
    ).fetchone()
    return dict(row[0]) if row else {}


def _skew_seconds(theirs: datetime, before: datetime, after: datetime) -> float:
    """Return how far their clock is ahead of ours, as far as the time of asking leaves it open."""
    if before <= theirs <= after:
        return 0.0
    return (theirs - (after if theirs > after else before)).total_seconds()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
