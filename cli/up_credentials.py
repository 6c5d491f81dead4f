"""Issues the credentials of a platform's own machine: whoever may read its data directory is its operator anyway.

Three persons, because system administrator, security administrator and auditor exclude each other. Their tokens lie in
the data directory, readable by its owner only; commands of this machine find them there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from cli.token_file import TokenFileError, TokenOut, read_token

if TYPE_CHECKING:
    import grpc

CALL_SECONDS_MAX: Final = 20.0
"""Longest answer of a registry that has just started on a busy machine."""

RENEWED_BEFORE: Final = timedelta(days=90)
"""A credential with less time left is replaced at a start: a platform that is started once a quarter never loses it."""

VALID_FOR: Final = timedelta(days=731)
"""The longest that the registry issues."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class LocalPerson:
    """One of the credentials of the machine: the name of its token file, and its roles."""

    name: str
    roles: Sequence[str]


SECURITY: Final = LocalPerson("security", ("SECURITY_ADMINISTRATOR",))
OTHERS: Final = (
    LocalPerson("operator", ("SYSTEM_ADMINISTRATOR", "REGISTRAR", "STANDARDS_OFFICER", "OFFICER", "DATA_STEWARD")),
    LocalPerson("auditor", ("AUDITOR",)),
)


class LocalCredentialsError(Exception):
    """The credentials cannot be issued; the text says why and what to do."""


def ensure(
    platform: str,
    directory: Path,
    bootstrap_token_file: Path,
    open_channel: Callable[[str], "grpc.Channel"],
) -> None:
    """Issue what is missing below the directory. `open_channel` opens a channel to the registry with a token.

    Raises LocalCredentialsError.
    """
    import grpc

    from services.common.access.tokens import format_token, read_secret_file
    from services.common.reasons import Reason
    from services.common.rpc_client import service_error

    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        security = directory / "security.token"
        if not _is_good(security, open_channel):
            first = format_token("bootstrap", read_secret_file(bootstrap_token_file)[0])
            _issue(platform, SECURITY, security, _current(security, open_channel) or first, open_channel)
        for person in OTHERS:
            path = directory / f"{person.name}.token"
            if not _is_good(path, open_channel):
                _issue(platform, person, path, read_token(security), open_channel)
    except grpc.RpcError as error:
        refusal = service_error(error)
        if refusal.reason is Reason.RECOVERING:
            # The registry was restored and gets back what it lacks, the credentials of these tokens among it, once the
            # relay runs. What is still missing then is issued at the next start.
            _log.warning("local_credentials_wait", detail=refusal.message)
            return
        raise LocalCredentialsError(
            f"the credentials of this machine cannot be issued: {refusal.message}. Where others hold the platform's "
            "credentials, start with --no-local-credentials; where the token of the security administrator is lost, "
            f"see `zhichao credential recover --data {directory.parent}`"
            " 无法签发本机凭证; 若本平台凭证由他处管理, 请加 --no-local-credentials"
        ) from error
    except (TokenFileError, OSError) as error:
        raise LocalCredentialsError(
            f"the credentials of this machine cannot be kept: {error} 无法保存本机凭证"
        ) from error


def _current(path: Path, open_channel: Callable[[str], "grpc.Channel"]) -> str | None:
    """Return a token that still works, though not for long."""
    return read_token(path) if path.exists() and _ends(path, open_channel) is not None else None


def _is_good(path: Path, open_channel: Callable[[str], "grpc.Channel"]) -> bool:
    if not path.exists():
        return False
    ends = _ends(path, open_channel)
    return ends is not None and ends - datetime.now(UTC) > RENEWED_BEFORE


def _ends(path: Path, open_channel: Callable[[str], "grpc.Channel"]) -> datetime | None:
    """Return when the credential of a token file ends; None when it works no more."""
    import grpc

    from services.common.rpc_client import service_error
    from zhichao.access.v1 import service_pb2 as pb
    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

    with open_channel(read_token(path)) as channel:
        try:
            answer = AccessServiceStub(channel).GetIdentity(pb.GetIdentityRequest(), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            if service_error(error).status != "UNAUTHENTICATED":
                raise
            return None
    return answer.expire_time.ToDatetime(UTC)


def _issue(
    platform: str, person: LocalPerson, path: Path, by: str, open_channel: Callable[[str], "grpc.Channel"]
) -> None:
    from zhichao.access.v1 import credential_pb2
    from zhichao.access.v1 import service_pb2 as pb
    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

    now = datetime.now(UTC)
    credential: Any = credential_pb2.Credential(
        # A name of its own each time: one that was lost or ends is not in the way of the next.
        credential_id=f"local-{person.name}-{now:%Y%m%d%H%M%S}",
        kind=credential_pb2.PRINCIPAL_KIND_PERSON,
        display_name=f"本机 {person.name}",
        division_code=platform,
        roles=[credential_pb2.Role.Value(f"ROLE_{role}") for role in person.roles],
    )
    # An hour less: the registry's clock may be behind.
    credential.expire_time.FromDatetime(now + VALID_FOR - timedelta(hours=1))
    with TokenOut(path, replaces=True) as out, open_channel(by) as channel:
        request = pb.CreateCredentialRequest(credential=credential)
        answer = AccessServiceStub(channel).CreateCredential(request, timeout=CALL_SECONDS_MAX)
        out.write(answer.token)
    _log.info("local_credential_issued", credential_id=credential.credential_id, path=str(path))
