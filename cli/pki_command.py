"""`zhichao pki`: a private certificate authority for trials, certificates of it, and a look at any certificate."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.help_text import CommandGroup
from cli.pki import AUTHORITY_DAYS, CERTIFICATE_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cli.pki.inspection import Inspected

EXIT_NOT_RIGHT = 1

_TRIAL = (
    "For trials: production takes files of cert-manager or another CA. 仅供试用, 生产环境请使用正式 CA 签发的证书。"
)

_DIRECTORY = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the authority. 证书颁发机构目录。",
)


@click.group("pki", cls=CommandGroup)
def pki() -> None:
    """Make a private certificate authority for trials, and look at certificates.

    试用环境的私有证书颁发机构, 以及证书查看。

    Production takes its files from cert-manager or any other CA; what they have to carry stands in
    docs/operate/certificates.md. 生产环境请使用 cert-manager 或其他 CA 签发的证书。
    """


@pki.command("init")
@_DIRECTORY
@click.option(
    "--trust-domain", default="zhichao", show_default=True, help="Trust domain of the platforms. 信任域, 各级须一致。"
)
@click.option("--days", type=int, default=AUTHORITY_DAYS, show_default=True, help="Days until it ends. 有效天数。")
def init(directory: Path, trust_domain: str, days: int) -> None:
    """Make an authority: ca.crt, which all platforms trust, and ca.key, which stays in the folder.

    新建证书颁发机构: ca.crt 分发给各级平台, ca.key 妥善保管。
    """
    from cli.pki.authority import Authority, PkiError, Validity
    from cli.pki.files import AUTHORITY_CERTIFICATE, AUTHORITY_KEY, write_authority

    try:
        authority = Authority.new(trust_domain, Validity.of_days(days))
        write_authority(directory, authority)
    except PkiError as error:
        raise click.UsageError(str(error)) from error
    ends_at = authority.pair.certificate.not_valid_after_utc
    click.echo(
        f"{directory / AUTHORITY_CERTIFICATE}  authority of {trust_domain} until {ends_at:%Y-%m-%d} 颁发机构证书"
    )
    click.echo(f"{directory / AUTHORITY_KEY}  its key: keep it away from the platforms 私钥, 请勿放在平台服务器上")
    click.echo(_TRIAL, err=True)


@pki.command("issue")
@_DIRECTORY
@click.option(
    "--platform", required=True, metavar="CODE", help="Platform that it is for, or that is called. 平台代码。"
)
@click.option(
    "--credential", "credential_id", metavar="ID", help="Holder of this credential, instead of the platform. 凭证编号。"
)
@click.option(
    "--client",
    "client_name",
    metavar="NAME",
    help="Somebody who calls with a token, instead of the platform; the certificate opens nothing by itself. "
    "与令牌一同使用的客户端。",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME|IP",
    help="Name or address under which others reach the platform; may be repeated. localhost and loopback addresses are "
    "always there. 其他机器访问本平台所用的主机名或地址, 可多次使用。",
)
@click.option("--days", type=int, default=CERTIFICATE_DAYS, show_default=True, help="Days until it ends. 有效天数。")
@click.option(
    "--out",
    "out_directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write tls.crt, tls.key and ca.crt to. 输出目录。",
)
@click.option(
    "--renew",
    "is_renewal",
    is_flag=True,
    help="Replace the certificate in --out, of the same name; its hosts stay unless --host is given, and so do the "
    "authorities beside it. 更新目录中的证书, 未给 --host 时沿用原主机名。",
)
def issue(
    directory: Path,
    platform: str,
    credential_id: str | None,
    client_name: str | None,
    hosts: tuple[str, ...],
    days: int,
    out_directory: Path,
    is_renewal: bool,
) -> None:
    """Issue the certificate of a platform, of the holder of a credential, or of a client.

    The holder of a credential (an integrator) calls by the certificate alone. A client (a person, a terminal) shows a
    token too, to a service that asks for certificates.

    签发平台证书、凭证持有者 (集成商) 的证书或客户端证书; 客户端证书须与令牌一同使用。

    Running services take a renewed certificate by themselves. 运行中的服务会自动启用更新后的证书。
    """
    from cli.pki.authority import PkiError, Validity, client_spiffe_id, host_names
    from cli.pki.files import read_authority, read_issued, renew_pair, write_pair
    from services.common.access.certificates import credential_spiffe_id, platform_id

    if credential_id and client_name:
        raise click.UsageError("give --credential or --client, not both 两者只能给出一个")
    if (credential_id or client_name) and hosts:
        raise click.UsageError("--host is for platforms: who only calls serves nobody 仅用于平台证书")
    try:
        authority = read_authority(directory)
        validity = Validity.of_days(days)
        domain = authority.trust_domain
        if credential_id:
            uri = credential_spiffe_id(domain, platform, credential_id)
        elif client_name:
            uri = client_spiffe_id(domain, platform, client_name)
        else:
            uri = platform_id(domain, platform)
        if is_renewal and not hosts:
            hosts = tuple(host_names(read_issued(out_directory, uri)))
        elif is_renewal:
            read_issued(out_directory, uri)
        if credential_id:
            pair = authority.issue_credential(platform, credential_id, validity)
        elif client_name:
            pair = authority.issue_client(platform, client_name, validity)
        else:
            pair = authority.issue_platform(platform, hosts, validity)
        files = (renew_pair if is_renewal else write_pair)(out_directory, pair, authority)
    except PkiError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{uri}  until 有效至 {pair.certificate.not_valid_after_utc:%Y-%m-%d}")
    if not (credential_id or client_name):
        click.echo(f"hosts 主机名: {', '.join(host_names(pair.certificate))}")
    for file in files:
        click.echo(str(file))
    click.echo(_TRIAL, err=True)


@pki.command("show")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")
def show(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show certificates: whose they are, under which names, and the days left. PATH is a file or a folder.

    查看证书: 归属、名称与剩余天数。PATH 为文件或目录。

    Exit status: 0 when all is right; 1 when one has ended, is not valid yet, or does not fit its key or authority.
    退出码: 0 正常; 1 已过期、尚未生效或与私钥、颁发机构不符。
    """
    from datetime import UTC, datetime

    from cli.pki.authority import PkiError
    from cli.pki.inspection import document, inspect

    now = datetime.now(UTC)
    try:
        found = [one for path in paths for one in inspect(path, now)]
    except PkiError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(document(found), ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console()
        console.print(_table(found))
        for one in found:
            for problem in one.problems:
                console.print(f"{one.path}: {problem}", style="red", highlight=False, markup=False)
    raise click.exceptions.Exit(0 if all(one.is_right for one in found) else EXIT_NOT_RIGHT)


def _table(found: "Sequence[Inspected]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # One above the other: side by side a terminal of 80 columns breaks them where they cannot be read any more.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("File, of, hosts\n文件、归属、主机名", overflow="fold")
    table.add_column("Until\n有效至", no_wrap=True)
    table.add_column("Days\n剩余天数", justify="right", no_wrap=True)
    table.add_column("OK?\n结果", no_wrap=True)
    for one in found:
        owner = ", ".join(one.uris) or one.subject
        told = f"{owner} (authority 颁发机构)" if one.is_authority else owner
        table.add_row(
            Text("\n".join(line for line in (one.path, told, ", ".join(one.hosts)) if line)),
            f"{one.ends_at:%Y-%m-%d}",
            f"{one.days_left:,.0f}",
            Text("ok", "green") if one.is_right else Text("BAD", "bold red"),
        )
    return table
