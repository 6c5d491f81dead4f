"""The first security administrator: somebody must be there to issue the first credential. They come from a file of the
operator, are known to this registry alone, and only as long as nobody else can issue credentials.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from services.common.access.limits import KIND_LIMITS
from services.common.access.permissions import PrincipalKind, Role, permissions_of
from services.common.access.principal import BOOTSTRAP_ID, Principal
from services.common.access.tokens import Token, TokenFileError, digest, is_digest_of, read_secret_file
from services.common.settings import SettingsError
from services.registry import refusals

VARIABLE: Final = "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE"

_log = structlog.get_logger()


class Bootstrap:
    """Accepts the bootstrap token, `zhichao.bootstrap.<secret>`, until it is over."""

    def __init__(self, platform: str, path: Path | None) -> None:
        """Read the secret; without a file the token is never accepted. Raises SettingsError."""
        self._digest = None if path is None else digest(_read(path))
        self._principal = Principal(
            PrincipalKind.PERSON,
            BOOTSTRAP_ID,
            permissions_of(PrincipalKind.PERSON, [Role.SECURITY_ADMINISTRATOR]),
            division_code=platform,
            limits=KIND_LIMITS[PrincipalKind.PERSON],
        )
        # Nobody is let in before the registry has looked whether there is a security administrator.
        self.is_over = True
        self.administrator_count = 0

    @property
    def is_configured(self) -> bool:
        """Whether there is a file at all."""
        return self._digest is not None

    def note_administrators(self, credential_ids: Collection[str]) -> None:
        """Take note of the valid credentials of security administrators: without any the token is accepted.

        Loudly: as long as it is, whoever holds the file is the security administrator.
        """
        is_over = bool(credential_ids)
        if self.is_configured and self.is_over and not is_over:
            _log.warning("bootstrap_token_accepted", cause="no valid credential of a security administrator")
        elif self.is_configured and is_over and not self.is_over:
            _log.info("bootstrap_token_refused", administrators=len(credential_ids))
        self.is_over = is_over
        self.administrator_count = len(credential_ids)

    def principal(self, token: Token) -> Principal | None:
        """Return the first security administrator for the right token; None for any other.

        Raises ServiceError CREDENTIAL_REVOKED once it is over.
        """
        if self._digest is None or token.credential_id != BOOTSTRAP_ID or not is_digest_of(self._digest, token.secret):
            return None
        if self.is_over:
            raise refusals.bootstrap_over()
        return self._principal


def _read(path: Path) -> str:
    try:
        secrets = read_secret_file(path)
    except TokenFileError as error:
        raise SettingsError(f"{VARIABLE}: {error}") from error
    if len(secrets) != 1:
        raise SettingsError(f"{VARIABLE}: {path} holds {len(secrets)} secrets, but must hold one")
    return secrets[0]
