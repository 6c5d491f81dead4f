"""A principal together with how it has shown who it is."""

from typing import NamedTuple

from services.common.access.certificates import CertificateIdentity
from services.common.access.principal import Principal


class Caller(NamedTuple):
    """Who calls: by the secret with this digest, by a certificate, or as a service of the platform by neither.

    A tuple, because it is made fastest: one for every call.
    """

    principal: Principal
    secret_digest: bytes = b""
    certificate: CertificateIdentity | None = None

    @property
    def has_token(self) -> bool:
        """Whether it showed the token of a credential, which somebody else may try to guess."""
        return bool(self.secret_digest)
