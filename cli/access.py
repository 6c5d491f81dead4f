"""How commands reach a service that asks who calls: the options for token and certificates, the channel, and what to
tell when the call is refused. Every command that calls a platform uses this.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.caller_tls import (
    CA_FILE_VARIABLE,
    CallerTls,
    CallerTlsError,
    caller_tls,
    tls_options,
    without_certificate_hint,
)
from cli.token_file import TokenFileError, local_token_file, read_token

if TYPE_CHECKING:
    import grpc

TOKEN_FILE_VARIABLE: Final = "ZHICHAO_TOKEN_FILE"  # noqa: S105 - the name of a variable

_CREDENTIAL_REASONS: Final = frozenset(
    {"NO_CREDENTIALS", "INVALID_CREDENTIALS", "CREDENTIAL_EXPIRED", "CREDENTIAL_REVOKED", "PERMISSION_MISSING"}
)

TOKEN_OPTION: Final = click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=TOKEN_FILE_VARIABLE,
    show_envvar=True,
    help="File with the token of who calls. 身份令牌文件。",
)


@dataclass(frozen=True, slots=True)
class CallerOptions:
    """Who calls, and by which certificates, as the command line says."""

    token_file: Path | None = None
    tls: CallerTls = field(default_factory=CallerTls)


@dataclass(frozen=True, slots=True)
class CallerAccess:
    """Who calls, by their token, and whose certificates they trust."""

    token: str = ""
    token_file: Path | None = None
    """Where the token came from, for messages."""
    tls: CallerTls = field(default_factory=CallerTls)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for token and certificates to a command, as one argument `caller_options`."""

    @functools.wraps(command)
    def call(
        token_file: Path | None,
        tls_directory: Path | None,
        ca_file: Path | None,
        certificate_file: Path | None,
        key_file: Path | None,
        **more: Any,
    ) -> None:
        tls = caller_tls(tls_directory, ca_file, certificate_file, key_file)
        command(caller_options=CallerOptions(token_file, tls), **more)

    return TOKEN_OPTION(tls_options(call))


def caller_access(
    options: CallerOptions, data_directory: Path | str | None = None, local_names: tuple[str, ...] = ()
) -> CallerAccess:
    """Return who calls: by the file named, or else by the first of a local platform's own tokens that is there.

    `local_names` are names of files in `DATA/secrets`, such as `operator`. Without any token the call is made without,
    and the service says what it thinks of that. Raises click.ClickException for a file that cannot be used.
    """
    token_file = options.token_file
    if token_file is None and data_directory:
        token_file = local_token_file(Path(data_directory), *local_names)
    try:
        token = "" if token_file is None else read_token(token_file)
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
    return CallerAccess(token, token_file, options.tls)


def open_channel(address: str, access: CallerAccess) -> "grpc.Channel":
    """Open a channel on which every call shows the token. The caller closes it.

    Plain text stays within this machine: another address without an authority to check it with, and an authority's file
    that cannot be used, raise click.ClickException.
    """
    from cli.connection_failure import check_address
    from services.common.access.tokens import bearer
    from services.common.rpc_client import connect
    from services.common.tls import is_local

    check_address(address)
    if access.tls == CallerTls() and not is_local(address):
        raise click.ClickException(
            f"{address} is another machine, which takes TLS: name the authority of its certificate with --ca "
            f"(or {CA_FILE_VARIABLE}) 远程地址须使用 TLS, 请用 --ca 指定 CA 证书"
        )
    try:
        tls = access.tls.load()
    except CallerTlsError as error:
        raise click.ClickException(str(error)) from error
    metadata = bearer(access.token) if access.token else ()
    return connect(address, tls=tls, credentials=lambda: metadata)


def refusal(error: "grpc.RpcError", access: CallerAccess) -> click.ClickException:
    """Return what to tell of a call that failed: the service's sentence, its reason, and where the token came from."""
    from cli.connection_failure import explain
    from services.common.reasons import Reason
    from services.common.rpc_client import service_error

    refused = service_error(error)
    text = f"{refused.message} ({refused.reason.value}) {refused.message_zh}".rstrip()
    for violation in refused.field_violations[1:]:
        text += f"\n  {violation.field}: {violation.description}"
    if refused.reason.value in _CREDENTIAL_REASONS:
        text += (
            f"\n  token 令牌: {access.token_file}"
            if access.token_file is not None
            else f"\n  name a file with --token-file (or {TOKEN_FILE_VARIABLE}) 请用 --token-file 指定令牌文件"
        )
    if refused.reason is Reason.SERVICE_UNAVAILABLE:
        text += explain(refused.message, is_plaintext=access.tls.ca_file is None) or without_certificate_hint(
            access.tls
        )
    return click.ClickException(text)
