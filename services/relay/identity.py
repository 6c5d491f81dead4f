"""Who this platform is towards its neighbours."""

from dataclasses import dataclass
from typing import Self

from services.common.metrics import software_version
from services.journal.notes import Signer


@dataclass(frozen=True, slots=True)
class Identity:
    """What a platform says of itself in a handshake."""

    platform: str
    # For people.
    software_version: str
    # In the signed-note form.
    verifier_key: str

    @classmethod
    def of(cls, platform: str, signer: Signer) -> Self:
        """Take the public part of the platform's key, and the release of this software."""
        return cls(platform, software_version(), signer.verifier_key.format())
