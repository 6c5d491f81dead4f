"""What stands behind a connection that did not come about, in words for a person; gRPC has those of its parts."""

import re
from typing import Final

import click

_ADDRESS: Final = re.compile(r"[^\s:]+:[0-9]{1,5}|\[[0-9A-Fa-f:.%]+\]:[0-9]{1,5}|unix:.+")

_CAUSES: Final = (
    # In this order: a text may hold several.
    (
        "WRONG_VERSION_NUMBER",
        "that port speaks plain text: leave --ca and --tls out, or name another port",
        "该端口使用明文, 请去掉 --ca 和 --tls, 或换用其他端口",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not of the authority in --ca, has ended, or names another host: `zhichao pki show` tells",
        "对端证书不是由 --ca 中的 CA 签发、已过期或主机名不符, 请用 `zhichao pki show` 核对",
    ),
    (
        "is not in peer certificate",
        "its certificate names another host: use a name that is in it",
        "对端证书不含该主机名, 请改用证书中的名称",
    ),
    (
        "Connection refused",
        "nothing listens there: does the platform run (`zhichao status`), and is it the right port?",
        "该地址无服务监听, 请检查平台是否运行、端口是否正确",
    ),
    (
        "errors resolving",
        "there is no such host name",
        "主机名无法解析",
    ),
    ("Connection reset", "the other side hung up: is it a service of a platform?", "对端断开连接, 请确认是平台服务"),
    ("Network is unreachable", "there is no way to that network from here", "网络不可达"),
    ("No route to host", "there is no way to that host from here", "主机不可达"),
    ("Timeout", "nobody answered in time: is there a firewall between?", "连接超时, 请检查防火墙"),
    ("timed out", "nobody answered in time: is there a firewall between?", "连接超时, 请检查防火墙"),
)


def check_address(address: str) -> None:
    """Raise click.ClickException for what is no address of a service."""
    if not _ADDRESS.fullmatch(address):
        raise click.ClickException(f"{address}: give host:port, like 127.0.0.1:7701 请写成 主机:端口")


def explain(message: str, *, is_plaintext: bool) -> str:
    """Return a line with the likely cause and what to do, in both languages; empty when nothing is known."""
    if is_plaintext and "Socket closed" in message:
        return "\n  that port speaks TLS: name its authority with --ca 该端口使用 TLS, 请用 --ca 指定 CA"
    for sign, english, chinese in _CAUSES:
        if sign in message:
            return f"\n  {english} {chinese}"
    return ""
