"""The check of the evidence store: reached, with its bucket, versions and locks, a right clock, and room for more. What
is kept in it is for `evidence_kept` to look at.
"""

import email.utils
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import grpc

from cli.doctor.database import KnownEvidence, read_evidence
from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.services import read_figures
from cli.doctor.settings import Check
from cli.doctor.subject import Subject
from cli.status_targets import TargetError, from_directory
from services.common.settings import SettingsError, load
from services.common.tls import is_local
from services.video.config import VideoSettings
from services.video.object_store import (
    BucketMissingError,
    LockState,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    WrongCredentialsError,
)
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from services.video.store_troubles import StoreTrouble
from zhichao.video.v1 import service_pb2, service_pb2_grpc

WAIT_SECONDS_MAX: Final = 2.5
"""For a connection and for each answer: a store of the same site answers within milliseconds, and the doctor ends
within ten seconds."""

SKEW_SECONDS_WARN: Final = 5.0
"""The header that tells the store's clock has whole seconds."""

SKEW_SECONDS_FAIL: Final = 600.0
"""At 15 minutes every request is refused (AWS Signature Version 4); so far off a clock goes on drifting."""

TEST_AGE_WARN: Final = timedelta(days=2)
"""The locks are tested daily."""

NAME: Final = "evidence-store"

_REMEDIES: Final[dict[type[StoreError], Text]] = {
    StoreUnavailableError: Text("start the store, or correct ZHICHAO_VIDEO_S3_ENDPOINT", "启动证据库或更正地址"),
    StoreFullError: Text("make room in the store", "扩大证据库容量"),
    BucketMissingError: Text(
        "if it was never there, start the video service; if it was, find out who removed it (docs/operate/evidence.md)",
        "首次使用请启动视频服务; 若曾存在请查明删除原因",
    ),
    WrongCredentialsError: Text(
        "correct the key files, the rights of the key, or the clock", "更正密钥文件、密钥权限或时钟"
    ),
}
_TROUBLES: Final[dict[StoreTrouble, Text]] = {
    StoreTrouble.UNAVAILABLE: _REMEDIES[StoreUnavailableError],
    StoreTrouble.FULL: _REMEDIES[StoreFullError],
    StoreTrouble.BUCKET_MISSING: _REMEDIES[BucketMissingError],
    StoreTrouble.WRONG_CREDENTIALS: _REMEDIES[WrongCredentialsError],
}
_CLOCKS: Final = Text("run NTP on both machines", "两台机器均应启用 NTP")
_OTHERWISE: Final = Text("see the log of the store", "查看证据库日志")


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield this check with its name."""
    yield NAME, lambda: check_store(subject)


def check_store(subject: Subject) -> Finding:
    """Ask the store, and look at what the service has found out about it. Changes nothing in either."""
    if "video" not in subject.services:
        return skip("the video service is not looked at here", "此处不含视频服务")
    environment = dict(subject.environment)
    for name, url in subject.database_urls.items():
        environment.setdefault(f"ZHICHAO_{name.upper()}_DATABASE_URL", url)
    try:
        settings = load(VideoSettings, environment)
    except SettingsError:
        if subject.is_running is False:
            return skip("its settings are known while the platform runs", "平台运行时方可查看")
        return fail(Text("its settings cannot be read", "设置无法读取"), Text("see the settings", "见配置一项"))
    host = urlsplit(settings.s3_endpoint).hostname or ""
    if subject.is_running is False and is_local(f"{host}:1"):
        return skip("it runs with the platform only", "证据库随平台启动")
    place = f"{settings.s3_bucket} at {settings.s3_endpoint}"
    try:
        facts = _ask(settings)
    except StoreError as error:
        remedy = next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), _OTHERWISE)
        return fail(Text(f"{place}: {error}", "证据库不可用"), remedy)
    except ValueError as error:
        return fail(
            Text(f"{place}: {error}", "证据库的 CA 文件无法使用"),
            Text("correct ZHICHAO_VIDEO_S3_CA_FILE", "更正 CA 文件设置"),
        )
    # A store that is full, or lets the key only read, answers as if all were well: who stores something knows.
    seen = _seen_by_service(subject)
    if seen is not None:
        trouble, detail = seen
        return fail(
            Text(f"{place}: the video service was refused: {detail or trouble.name.lower()}", "证据库拒绝写入"),
            _TROUBLES.get(trouble, _OTHERWISE),
        )
    return _judge(
        place,
        settings,
        facts,
        read_evidence(environment.get("ZHICHAO_VIDEO_DATABASE_URL", "")),
        _skew_seconds(settings),
    )


def _ask(settings: VideoSettings) -> bool:
    """Ask whether the bucket is there, and whether it keeps versions. Raises StoreError, ValueError."""
    impatient = replace(
        S3Settings.of(settings),
        connect_timeout_seconds=WAIT_SECONDS_MAX,
        read_timeout_seconds=WAIT_SECONDS_MAX,
        retries=0,
    )
    store = S3ObjectStore(impatient)
    try:
        store.check()
        return store.is_versioned()
    finally:
        store.close()


def _seen_by_service(subject: Subject) -> tuple[StoreTrouble, str] | None:
    """Return what keeps the store from its work as the running service sees it, with its sentence if told."""
    status = _status(subject.data_directory) if subject.data_directory is not None and subject.is_running else None
    if status is not None:
        kinds = {kind.value: kind for kind in StoreTrouble}
        # One of a newer release is told all the same.
        trouble = kinds.get(status.trouble, StoreTrouble.REFUSED) if status.trouble else None
        return (trouble, status.trouble_detail) if trouble is not None else None
    address = subject.metrics_addresses.get("video", "")
    for (name, labels), value in ((read_figures(address) if address else None) or {}).items():
        if name == "zhichao_evidence_store_trouble" and value:
            return StoreTrouble.__members__.get(dict(labels)["trouble"].upper(), StoreTrouble.REFUSED), ""
    return None


def _status(data_directory: Path) -> service_pb2.GetStoreStatusResponse | None:
    try:
        with from_directory(data_directory).connect("video", "operator") as channel:
            stub = service_pb2_grpc.VideoServiceStub(channel)
            found: service_pb2.GetStoreStatusResponse = stub.GetStoreStatus(
                service_pb2.GetStoreStatusRequest(), timeout=WAIT_SECONDS_MAX
            )
            return found
    except (TargetError, KeyError, click.ClickException, grpc.RpcError):
        # Whether it serves at all is for another check to tell.
        return None


def _judge(
    place: str, settings: VideoSettings, is_versioned: bool, known: KnownEvidence | None, skew: float | None
) -> Finding:
    test = known.test if known is not None else None
    state = LockState(test.lock_state) if test is not None else None
    told = f"{place}: {'versions' if is_versioned else 'no versions'}, locks {_lock_text(state)}"
    if skew is not None:
        told += f", clock {skew:+.0f} s"
    if skew is not None and abs(skew) > SKEW_SECONDS_FAIL:
        return fail(Text(told, f"证据库时钟相差 {skew:+.0f} 秒"), _CLOCKS)
    if state is LockState.NOT_ENFORCED or (settings.object_lock == "require" and state is not LockState.ENFORCED):
        return fail(Text(told, "对象锁定无效"), Text("see docs/operate/object-stores.md", "参见对象存储文档"))
    if skew is not None and abs(skew) > SKEW_SECONDS_WARN:
        return warn(Text(told, f"证据库时钟相差 {skew:+.0f} 秒"), _CLOCKS)
    if not is_versioned:
        return warn(
            Text(told, "存储桶未启用版本"),
            Text("turn versions on, so that a deletion can be undone", "启用版本后误删可恢复"),
        )
    if state in (LockState.UNSUPPORTED, LockState.UNKNOWN, None):
        return warn(
            Text(told, "对象锁定未经证实"),
            Text("use a bucket with Object Lock: docs/operate/object-stores.md", "使用支持对象锁定的存储桶"),
        )
    if test is not None and datetime.now(UTC) - test.test_time > TEST_AGE_WARN:
        return warn(
            Text(f"{told}, tested {test.test_time:%Y-%m-%d}", "对象锁定自检过期"),
            Text("see the log of the video service", "查看视频服务日志"),
        )
    return ok(told, "证据库可用, 对象锁定有效")


def _lock_text(state: LockState | None) -> str:
    return "not tested yet" if state is None else state.name.lower().replace("_", " ")


def _skew_seconds(settings: VideoSettings) -> float | None:
    """Return how far the store's clock is ahead of ours, by the date of an answer; None when it tells none."""
    before = datetime.now(UTC)
    header = _date_header(settings.s3_endpoint, settings.s3_ca_file)
    after = datetime.now(UTC)
    try:
        theirs = email.utils.parsedate_to_datetime(header) if header else None
    except ValueError:
        return None
    if theirs is None or theirs.tzinfo is None:
        return None
    # Cut to whole seconds by the store.
    if before - timedelta(seconds=1) <= theirs <= after:
        return 0.0
    return (theirs - (after if theirs > after else before)).total_seconds()


def _date_header(endpoint: str, ca_file: Path | None) -> str:
    import ssl

    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file and endpoint.startswith("https:") else None
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - an http(s) address, as the setting checks
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX, context=context) as answer:  # noqa: S310 - as above
            return str(answer.headers.get("Date") or "")
    except urllib.error.HTTPError as error:
        # A refusal has a date, too.
        return str(error.headers.get("Date") or "")
    except OSError:
        return ""
