"""`zhichao credential` and `zhichao whoami`: who may call a platform, and who one is oneself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.credential_display import ROLES
from cli.credential_recover_command import recover
from cli.credential_request import (
    CREDENTIAL_KINDS,
    credential_message,
    credential_options,
    kind_number,
    role_number,
)
from cli.help_text import CommandGroup
from cli.listing import every
from cli.registry_reach import access_service, reaching
from cli.service_reach import Reach

if TYPE_CHECKING:
    from cli.token_file import TokenOut
    from zhichao.access.v1 import credential_pb2

CALL_SECONDS_MAX: Final = 10.0
"""A credential is written in milliseconds, across a province in tens of them."""

PAGE_SIZE: Final = 1_000

ADMINISTRATOR_TOKENS: Final = ("security", "bootstrap")
"""Tokens of a local platform that may issue credentials: that of its security administrator, or the first one."""

READER_TOKENS: Final = ("security", "auditor", "bootstrap")
"""Tokens of a local platform that may look at credentials."""

CALLER_TOKENS: Final = ("operator",)
"""Whom `zhichao whoami` asks about on a local platform unless told otherwise."""

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao credential create terminal --unit 141025-001 --name 东门终端 \\
    --token-out terminal.token
zhichao credential create person --division 141025 --role registrar \\
    --role viewer --name 示例甲
"""

_TOKEN_OUT = click.option(
    "--token-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the token into this file (mode 0600) instead of printing it. 将令牌写入文件, 不在屏幕显示。",
)


@click.group("credential", cls=CommandGroup)
def credential() -> None:
    """Issue and revoke the credentials of terminals, integrators and persons.

    签发与吊销终端、集成商和人员的凭证。

    Without --data or --registry, the one platform that runs here is meant (var/*), and its security administrator
    calls. A token is shown once, when it is made; whoever loses it rotates the credential.
    """


@credential.command("create", epilog=EXAMPLES)
@click.argument("kind", type=click.Choice(CREDENTIAL_KINDS))
@click.option("--id", "credential_id", default="", metavar="ID", help="Its id; made by the registry if none. 编号。")
@credential_options
@click.option("--certificate-only", is_flag=True, help="No token: a client certificate is shown. 仅用证书, 不发令牌。")
@_TOKEN_OUT
@reaching
def create(
    kind: str,
    credential_id: str,
    name: str | None,
    certificate_only: bool,
    token_out: Path | None,
    reach: Reach,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Issue a credential and show its token, this once.

    签发凭证, 令牌仅显示一次。
    """
    from zhichao.access.v1 import service_pb2

    message = credential_message(credential_id, name, **wanted)
    message.kind = kind_number(kind)
    request = service_pb2.CreateCredentialRequest(credential=message, is_certificate_only=certificate_only)
    with (
        _token_sink(None if certificate_only else token_out, replaces=False) as sink,
        access_service(reach, ADMINISTRATOR_TOKENS) as stub,
    ):
        answer = stub.CreateCredential(request, timeout=CALL_SECONDS_MAX)
        more = {"certificate_uri": answer.certificate_uri} if certificate_only else {}
        _show_issued(answer.credential, answer.token, sink, token_out, more, as_json=as_json)


@credential.command("list")
@click.option("--kind", type=click.Choice(CREDENTIAL_KINDS), help="Only of this kind. 仅此类型。")
@click.option("--unit", metavar="ID", default="", help="Only bound to this source unit. 仅绑定此源头单位。")
@click.option("--role", type=click.Choice(tuple(ROLES)), metavar="ROLE", help="Only with this role. 仅此角色。")
@click.option("--all", "include_ended", is_flag=True, help="Revoked and ended ones too. 含已吊销和已到期。")
@click.option("--origin", metavar="CODE", default="", help="Those that a platform below has issued. 下级签发的凭证。")
@reaching
def list_credentials(
    kind: str | None,
    unit: str,
    role: str | None,
    include_ended: bool,
    origin: str,
    reach: Reach,
    as_json: bool,
) -> None:
    """List credentials.

    列出凭证。
    """
    from cli.credential_display import as_document, credential_table
    from cli.terminal import Console
    from zhichao.access.v1 import service_pb2

    request = service_pb2.ListCredentialsRequest(
        kind=kind_number(kind),
        source_unit_id=unit,
        role=role_number(role),
        include_ended=include_ended,
        origin=origin,
        page_size=PAGE_SIZE,
    )
    with access_service(reach, READER_TOKENS) as stub:
        found = list(every(stub.ListCredentials, request, "credentials", CALL_SECONDS_MAX))
    if as_json:
        click.echo(json.dumps([as_document(one) for one in found], ensure_ascii=False))
    elif not found:
        click.echo("no credentials 无凭证")
    else:
        Console().print(credential_table(found, _now()))


@credential.command("show")
@click.argument("credential_id", metavar="ID")
@click.option("--origin", metavar="CODE", default="", help="Platform below that has issued it. 签发平台。")
@reaching
def show(
    credential_id: str,
    origin: str,
    reach: Reach,
    as_json: bool,
) -> None:
    """Show one credential, without secrets.

    查看凭证, 不含密钥。
    """
    from zhichao.access.v1 import service_pb2

    request = service_pb2.GetCredentialRequest(credential_id=credential_id, origin=origin)
    with access_service(reach, READER_TOKENS) as stub:
        _show(stub.GetCredential(request, timeout=CALL_SECONDS_MAX).credential, as_json=as_json)


@credential.command("update")
@click.argument("credential_id", metavar="ID")
@credential_options
@reaching
def update(
    credential_id: str,
    name: str | None,
    reach: Reach,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Change what is named; units and roles are replaced as a whole. The token stays.

    变更凭证, 源头单位与角色整体替换, 令牌不变。
    """
    from zhichao.access.v1 import service_pb2

    message = credential_message(credential_id, name, **wanted)
    request = service_pb2.UpdateCredentialRequest(credential=message)
    request.update_mask.paths.extend(field.name for field, _ in message.ListFields() if field.name != "credential_id")
    if not request.update_mask.paths:
        raise click.UsageError("nothing changes: name what should, for example --days 365 未指定变更内容")
    with access_service(reach, ADMINISTRATOR_TOKENS) as stub:
        _show(stub.UpdateCredential(request, timeout=CALL_SECONDS_MAX).credential, as_json=as_json)


@credential.command("rotate")
@click.argument("credential_id", metavar="ID")
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 30),
    default=7,
    show_default=True,
    help="Days in which the former token still works; 0 when it has leaked. 旧令牌继续有效的天数。",
)
@_TOKEN_OUT
@reaching
def rotate(
    credential_id: str,
    overlap_days: int,
    token_out: Path | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Make a new token and show it, this once; the former one works on for a while. --token-out may be the old file.

    轮换令牌, 新令牌仅显示一次, 旧令牌在重叠期内仍有效。
    """
    from datetime import timedelta

    from cli.credential_display import local_time
    from zhichao.access.v1 import service_pb2

    request = service_pb2.RotateCredentialRequest(credential_id=credential_id)
    request.overlap.FromTimedelta(timedelta(days=overlap_days))
    with (
        _token_sink(token_out, replaces=True) as sink,
        access_service(reach, ADMINISTRATOR_TOKENS) as stub,
    ):
        answer = stub.RotateCredential(request, timeout=CALL_SECONDS_MAX)
        more = {"former_token_ends": local_time(answer.former_expire_time)}
        _show_issued(answer.credential, answer.token, sink, token_out, more, as_json=as_json)


@credential.command("revoke")
@click.argument("credential_id", metavar="ID")
@click.option("--reason", required=True, help="Why; kept for ever. 吊销原因, 永久保存。")
@reaching
def revoke(
    credential_id: str,
    reason: str,
    reach: Reach,
    as_json: bool,
) -> None:
    """End a credential for ever. May be repeated.

    吊销凭证, 不可恢复。
    """
    from zhichao.access.v1 import service_pb2

    request = service_pb2.RevokeCredentialRequest(credential_id=credential_id, reason=reason)
    with access_service(reach, ADMINISTRATOR_TOKENS) as stub:
        _show(stub.RevokeCredential(request, timeout=CALL_SECONDS_MAX).credential, as_json=as_json)


credential.add_command(recover)


@click.command("whoami")
@reaching
def whoami(
    reach: Reach,
    as_json: bool,
) -> None:
    """Show who a token is, and what it may do.

    查看令牌的身份与权限。
    """
    from google.protobuf.json_format import MessageToDict

    from cli.credential_display import identity_facts, kind_name, permission_names
    from cli.terminal import Console
    from zhichao.access.v1 import service_pb2

    with access_service(reach, CALLER_TOKENS) as stub:
        identity = stub.GetIdentity(service_pb2.GetIdentityRequest(), timeout=CALL_SECONDS_MAX)
    if as_json:
        document = MessageToDict(identity, preserving_proto_field_name=True)
        document |= {"kind": kind_name(identity.kind), "permissions": permission_names(identity)}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        Console().print(identity_facts(identity))


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _show(found: "credential_pb2.Credential", *, as_json: bool) -> None:
    from cli.credential_display import as_document, credential_facts
    from cli.terminal import Console

    if as_json:
        click.echo(json.dumps(as_document(found), ensure_ascii=False))
    else:
        Console().print(credential_facts(found, _now()))


def _show_issued(
    issued: "credential_pb2.Credential",
    token: str,
    sink: "TokenOut | None",
    token_out: Path | None,
    more: dict[str, str],
    *,
    as_json: bool,
) -> None:
    """Put the token where it was asked for, and say what was made."""
    from cli.credential_display import as_document
    from cli.token_file import TokenFileError

    if sink is not None:
        try:
            sink.write(token)
        except TokenFileError as error:
            raise click.ClickException(
                f"{error}; credential {issued.credential_id} is there, but its token is lost: rotate it "
                "凭证已签发但令牌未能保存, 请轮换"
            ) from error
    where = {"token_file": str(token_out)} if sink is not None else {"token": token} if token else {}
    if as_json:
        click.echo(json.dumps({"credential": as_document(issued), **where, **more}, ensure_ascii=False))
        return
    _show(issued, as_json=False)
    for title, value in more.items():
        click.echo(f"{title.replace('_', ' ')}: {value}")
    if sink is not None:
        click.echo(f"token written 令牌已写入: {token_out}")
    elif token:
        click.echo(f"token, shown this once 令牌仅显示一次:\n{token}")


@contextmanager
def _token_sink(path: Path | None, *, replaces: bool) -> "Iterator[TokenOut | None]":
    """Begin the file for the token before anything is issued."""
    from cli.token_file import TokenFileError, TokenOut

    if path is None:
        yield None
        return
    try:
        sink = TokenOut(path, replaces=replaces)
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
    with sink:
        yield sink
