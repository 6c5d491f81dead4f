"""Checks of settings, files and the disk: what can be said without asking anybody."""

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.subject import Subject
from cli.platform_layout import PlatformFiles
from services.common.access.certificates import platform_id
from services.common.access.tokens import TokenFileError, read_secret_file
from services.common.settings import PlatformSettings, SettingsError, check_config, load
from services.common.tls import Transport, is_local
from services.journal.notes import NoteError, Signer, signer_name

CERTIFICATE_DAYS_WARN: Final = 14
"""cert-manager renews a certificate of 90 days 30 days before its end: with half of that left renewal does not work."""

DISK_FREE_FAIL: Final = 1024**3
"""Bytes free: PostgreSQL stops when it cannot write, and a checkpoint may need some hundred megabytes at once."""

DISK_FREE_WARN: Final = 10 * 1024**3
"""Bytes free: a heavy county writes about 100 MB of records a day, so there are months left to act."""

_OTHERS_MAY_READ: Final = 0o077

Check = Callable[[], Finding]


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield these checks with their names."""
    yield "settings", lambda: check_settings(subject)
    if subject.is_running is not None:
        yield "platform", lambda: check_running(subject)
    yield "signing-key", lambda: check_signing_key(subject)
    yield "certificate", lambda: check_certificate(subject)
    yield "service-token", lambda: check_service_token(subject)
    yield "disk", lambda: check_disk(subject)


def check_settings(subject: Subject) -> Finding:
    """Read the settings as the services do, and point out names that nobody reads."""
    groups: dict[type[Any], None] = {}
    for name in subject.services:
        groups.update(dict.fromkeys(importlib.import_module(f"services.{name}.config").SETTINGS))
    is_well, text = check_config(tuple(groups) or (PlatformSettings,), subject.environment)
    if not is_well:
        return fail(
            Text(text.replace("\n", "; "), "配置有误"),
            Text("set what is named; python -m services --check-config shows all", "按提示修改配置"),
        )
    # A variable of the commands, or of another service, is nothing to be warned of.
    unused = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#") and "; " in line]
    if unused:
        return warn(
            Text("; ".join(unused), "有未使用或已取消的变量"), Text("correct or remove them", "更正或删除这些变量")
        )
    return ok(f"{len(subject.services)} services: {', '.join(subject.services)}", "配置可用")


def check_running(subject: Subject) -> Finding:
    """Say whether the platform of a data directory runs."""
    state = subject.state
    if subject.is_running and state is not None:
        if state.phase != "serving":
            return warn(
                Text(f"it is {state.phase}, process {state.pid}", "尚未就绪"),
                Text("look at its log if this lasts", "若持续请查看日志"),
            )
        return ok(f"runs as process {state.pid}", "运行中")
    return fail(
        Text(f"nothing runs on {subject.data_directory}", "未运行"),
        Text(f"zhichao up --platform {subject.platform} --data {subject.data_directory}", "启动平台"),
    )


def check_signing_key(subject: Subject) -> Finding:
    """Read the signing key."""
    named = subject.environment.get("ZHICHAO_SIGNING_KEY_FILE", "")
    path = Path(named) if named else None
    if path is None and subject.data_directory is not None:
        path = PlatformFiles(subject.data_directory).signing_key
    remedy = Text("put the key file of this platform back from where you keep it", "放回本平台的签名密钥文件")
    if path is None:
        return fail(Text("ZHICHAO_SIGNING_KEY_FILE is not set", "未设置签名密钥文件"), remedy)
    try:
        key = Signer.from_pem_file(signer_name(subject.platform), path).verifier_key.format()
        mode = path.stat().st_mode
    except (NoteError, OSError) as error:
        return fail(Text(f"{path} cannot be used: {_told(error)}", "签名密钥不可用"), remedy)
    if mode & _OTHERS_MAY_READ:
        return warn(
            Text(f"others than its owner may read {path}", "密钥文件权限过宽"), Text(f"chmod 600 {path}", "收紧权限")
        )
    return ok(key, "签名密钥可用")


def check_certificate(subject: Subject) -> Finding:
    """Read certificate, key and authorities: they fit, name the platform, and have days left."""
    try:
        platform = load(PlatformSettings, subject.environment)
        tls = Transport.of(platform).tls
    except SettingsError as error:
        return fail(
            Text(str(error).replace("\n", "; "), "证书不可用"),
            Text("put the right files there; zhichao pki show FILE tells what a file holds", "放入正确的证书文件"),
        )
    if tls is None:
        outside = [f"{name} {where}" for name, where in subject.addresses.items() if not is_local(where)]
        upstream = subject.environment.get("ZHICHAO_RELAY_UPSTREAM", "")
        if outside or upstream:
            return fail(
                Text(f"none is configured, and {', '.join([*outside, upstream]).strip(', ')} takes TLS", "未配置证书"),
                Text("set ZHICHAO_TLS_CERTIFICATE_FILE, ZHICHAO_TLS_KEY_FILE, ZHICHAO_TLS_CA_FILE", "配置三个证书文件"),
            )
        return skip("not configured: plain text on loopback", "未配置, 仅本机明文")
    wanted = platform_id(platform.trust_domain, subject.platform)
    if wanted not in tls.current().uris:
        return fail(
            Text(f"it names {', '.join(tls.current().uris) or 'nobody'}, not {wanted}", "证书不属于本平台"),
            Text("have one issued with that URI name", "重新签发含该 URI 名称的证书"),
        )
    days, ca_days = tls.certificate_days_left(), tls.authorities_days_left()
    told = Text(f"{days:.0f} days left, authorities {ca_days:.0f}", f"剩余 {days:.0f} 天, 根证书 {ca_days:.0f} 天")
    renew = Text("renew it; services take a new file up without a restart", "更新证书, 无需重启")
    if min(days, ca_days) <= 0:
        return fail(told, renew)
    if min(days, ca_days) < CERTIFICATE_DAYS_WARN:
        return warn(told, renew)
    return ok(f"{wanted}, {told.english}", told.chinese)


def check_service_token(subject: Subject) -> Finding:
    """Read the secret that the platform's services know each other by."""
    named = subject.environment.get("ZHICHAO_SERVICE_TOKEN_FILE", "")
    remedy = Text("name a file with one secret a line, the same for all services", "指定服务密钥文件, 各服务相同")
    if not named:
        return fail(Text("ZHICHAO_SERVICE_TOKEN_FILE is not set", "未设置服务密钥文件"), remedy)
    try:
        secrets = read_secret_file(Path(named))
        mode = Path(named).stat().st_mode
    except (TokenFileError, OSError) as error:
        return fail(Text(f"{named} cannot be used: {_told(error)}", "服务密钥不可用"), remedy)
    if mode & _OTHERS_MAY_READ & ~0o040:
        # A group may read what Kubernetes mounts for it.
        return warn(
            Text(f"others than its owner may read {named}", "密钥文件权限过宽"),
            Text(f"chmod 600 {named}", "收紧权限"),
        )
    return ok(f"{len(secrets)} secrets", f"{len(secrets)} 个密钥")


def check_disk(subject: Subject) -> Finding:
    """Look at the room on the disk of the data directory."""
    if subject.data_directory is None:
        return skip("no data directory: the databases are elsewhere", "数据库不在本机")
    usage = shutil.disk_usage(subject.data_directory)
    told = f"{usage.free / 1024**3:,.1f} GiB of {usage.total / 1024**3:,.1f} GiB free"
    text = Text(told, f"剩余 {usage.free / 1024**3:,.1f} GiB")
    remedy = Text("make room: a full disk stops the database", "清理空间, 磁盘写满数据库即停")
    if not os.access(subject.data_directory, os.W_OK):
        return fail(
            Text(f"{subject.data_directory} cannot be written", "数据目录不可写"),
            Text("give it back its owner", "恢复属主"),
        )
    if usage.free < DISK_FREE_FAIL:
        return fail(text, remedy)
    return warn(text, remedy) if usage.free < DISK_FREE_WARN else ok(told, text.chinese)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
