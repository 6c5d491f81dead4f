"""Checks of what runs: the health of each service, what their figures tell, and that all are of one release."""

import http.client
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import grpc
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families

from cli.doctor.finding import Finding, Text, fail, ok, skip, warn
from cli.doctor.settings import Check
from cli.doctor.subject import Subject
from cli.up_health import CHANNEL_OPTIONS, CHECK_METHOD
from services.common.metrics import software_version
from services.common.metrics_server import PATH

ANSWER_SECONDS_MAX: Final = 3.0
"""A service on the same site answers within milliseconds; its figures may wait 2 s for a database in trouble."""

CREDENTIALS_SECONDS_WARN: Final = 30.0
"""The registry tells every 2 s that nothing has changed: revocations are said to arrive within 10 s."""

_HOW_TO_SHOW: Final = Text("set ZHICHAO_<SERVICE>_METRICS_LISTEN to see it", "设置指标端口后可见")

Figures = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def checks(subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield these checks with their names."""
    for name in subject.services:
        yield f"service {name}", lambda name=name: check_health(subject, name)  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
    yield "versions", lambda: check_versions(subject)
    yield "credentials", lambda: check_credentials(subject)


def check_health(subject: Subject, service: str) -> Finding:
    """Ask a service whether it serves."""
    address = subject.health_addresses.get(service, "")
    if not address:
        if subject.is_running is False:
            return fail(Text("it does not run", "未运行"), Text("start the platform", "启动平台"))
        return skip(f"ZHICHAO_{service.upper()}_HEALTH_LISTEN is not set", "未设置健康检查端口")
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        check = channel.unary_unary(
            CHECK_METHOD,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            status = check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS_MAX).status
        except grpc.RpcError:
            return fail(
                Text(f"{address} does not answer", "无响应"),
                Text("look at its log for why it does not start", "查看该服务的启动日志"),
            )
    if status != health_pb2.HealthCheckResponse.SERVING:
        return fail(
            Text(f"{address} does not serve", "未提供服务"),
            Text("it is starting or stopping, or waits for its database; see its log", "正在启停或等待数据库"),
        )
    return ok(f"serves, {subject.addresses.get(service, address)}", "服务正常")


def check_versions(subject: Subject) -> Finding:
    """Compare the releases that run with each other and with the one that is installed."""
    if not subject.metrics_addresses:
        return skip(f"not known: {_HOW_TO_SHOW.english}", _HOW_TO_SHOW.chinese)
    versions: dict[str, str] = {}
    for service, figures in read_all(subject).items():
        for name, labels in figures:
            if name == "zhichao_build_info":
                versions[service] = dict(labels)["version"]
    if not versions:
        return warn(Text("no service shows its figures", "指标端口无响应"), Text("see the services", "见服务各项"))
    installed = software_version()
    different = {service: version for service, version in versions.items() if version != installed}
    if different:
        told = ", ".join(f"{service} {version}" for service, version in different.items())
        return warn(
            Text(f"installed is {installed}, but there runs {told}", f"已安装 {installed}, 运行版本不一致"),
            Text("restart these services", "重启这些服务"),
        )
    return ok(f"{installed}: {', '.join(versions)}", "版本一致")


def check_credentials(subject: Subject) -> Finding:
    """Look at how old each service's knowledge of credentials is."""
    if not subject.metrics_addresses:
        return skip(f"not known: {_HOW_TO_SHOW.english}", _HOW_TO_SHOW.chinese)
    ages: dict[str, float] = {}
    for service, figures in read_all(subject).items():
        told = [value for (name, _), value in figures.items() if name == "zhichao_credentials_age_seconds"]
        ages[service] = max(told, default=math.inf)
    if not ages:
        return warn(Text("no service shows its figures", "指标端口无响应"), Text("see the services", "见服务各项"))
    remedy = Text(
        "the registry must run, and ZHICHAO_SERVICE_TOKEN_FILE be the same for all services",
        "登记服务须运行, 各服务密钥须相同",
    )
    unknown = [service for service, age in ages.items() if math.isinf(age)]
    if unknown:
        return fail(Text(f"{', '.join(unknown)} has heard nothing of the registry yet", "尚未获得凭证信息"), remedy)
    oldest = max(ages.values())
    if oldest > CREDENTIALS_SECONDS_WARN:
        return warn(Text(f"known as of {oldest:.0f} s ago", f"凭证信息为 {oldest:.0f} 秒前"), remedy)
    return ok(f"known as of {oldest:.0f} s ago", "凭证信息为最新")


def read_all(subject: Subject) -> Mapping[str, Figures]:
    """Read what the services show to Prometheus, side by side; those that do not answer are left out."""
    addresses = subject.metrics_addresses
    with ThreadPoolExecutor(max(len(addresses), 1), thread_name_prefix="doctor-figures") as pool:
        read = dict(zip(addresses, pool.map(read_figures, addresses.values()), strict=True))
    return {service: figures for service, figures in read.items() if figures is not None}


def read_figures(address: str) -> Figures | None:
    """Read what a service shows to Prometheus; None when it does not answer."""
    try:
        with closing(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS_MAX)) as connection:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            text = answer.read().decode() if answer.status == http.client.OK else ""
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
