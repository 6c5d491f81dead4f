"""Whom a client certificate names: the one SPIFFE id in its subject alternative names. The TLS handshake has checked
chain, dates and possession of the key; nothing else of the certificate is looked at, least of all its common name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography import x509

from services.common.errors import ServiceError
from services.common.reasons import Reason

SPIFFE_SCHEME: Final = "spiffe://"

# What gRPC puts into a call's auth context: the certificate of a client that showed one, and its URI names.
_CERTIFICATE: Final = "x509_pem_cert"
_URI: Final = "peer_uri"

# The id itself is at most 2,048 bytes (SPIFFE-ID, 2.3); ours are far shorter, and longer ones are not looked at.
_ID_CHARACTERS_MAX: Final = 512
# Certificates whose dates are remembered: a province has some 130 platforms and some integrators, twice with renewals.
_REMEMBERED_MAX: Final = 512

_PATH: Final = re.compile(r"platform/(?P<platform>[0-9]{6})(?:/credential/(?P<credential>[a-z0-9-]{1,64}))?")


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Whom a certificate names: a platform, or with a `credential_id` whoever holds that credential of the platform."""

    platform: str
    # When the certificate ends. Only a full handshake looks at it: a connection outlives it, and so does a session that
    # is taken up again.
    ends_at: datetime
    credential_id: str = ""

    @property
    def name(self) -> str:
        """Name in logs: what the certificate says, whatever it is worth here."""
        return f"platform/{self.platform}" + (f"/credential/{self.credential_id}" if self.credential_id else "")


def platform_id(trust_domain: str, platform: str) -> str:
    """Return the SPIFFE id of a platform, for example `spiffe://zhichao/platform/141025`."""
    return f"{SPIFFE_SCHEME}{trust_domain}/platform/{platform}"


def credential_spiffe_id(trust_domain: str, platform: str, credential_id: str) -> str:
    """Return the SPIFFE id of the holder of a credential."""
    return f"{platform_id(trust_domain, platform)}/credential/{credential_id}"


def identity_of(auth_context: Mapping[str, Sequence[bytes]], trust_domain: str) -> CertificateIdentity | None:
    """Return whom the client's certificate names; None when the client showed none.

    `auth_context` is what gRPC's `ServicerContext.auth_context()` returns. Exactly one URI name is allowed (SPIFFE
    X.509-SVID, 2): of two, a careless CA and a careless reader choose different ones. Raises ServiceError
    INVALID_CREDENTIALS for a certificate without one, of another trust domain, or with a path that is none of ours.
    """
    certificates = auth_context.get(_CERTIFICATE)
    if not certificates:
        return None
    uris = auth_context.get(_URI, ())
    if len(uris) != 1:
        raise _invalid(f"the certificate has {len(uris)} URI names where exactly one is expected, a SPIFFE id")
    uri = bytes(uris[0]).decode("ascii", "replace")
    domain, _, path = uri.removeprefix(SPIFFE_SCHEME).partition("/")
    if len(uri) > _ID_CHARACTERS_MAX or not uri.startswith(SPIFFE_SCHEME):
        raise _invalid("the URI name of the certificate is no SPIFFE id of a platform")
    if domain != trust_domain:
        raise _invalid(f"the certificate belongs to another trust domain than {trust_domain}")
    found = _PATH.fullmatch(path)
    if found is None:
        raise _invalid(
            f"the SPIFFE id of the certificate must be {platform_id(trust_domain, '<code>')}, and may end in "
            "/credential/<credential_id>"
        )
    return CertificateIdentity(found["platform"], _end_of(bytes(certificates[0])), found["credential"] or "")


def fingerprint_of(auth_context: Mapping[str, Sequence[bytes]]) -> str:
    """Return what tells the client's certificate from all others, for logs and counts; empty when it showed none."""
    certificates = auth_context.get(_CERTIFICATE)
    return f"certificate:{sha256(bytes(certificates[0])).hexdigest()[:16]}" if certificates else ""


@lru_cache(_REMEMBERED_MAX)
def _end_of(pem: bytes) -> datetime:
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError as error:
        raise _invalid("the certificate cannot be read") from error


def _invalid(message: str) -> ServiceError:
    return ServiceError(Reason.INVALID_CREDENTIALS, message)
