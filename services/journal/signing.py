"""The platform's signing key as every service loads it."""

from services.common.settings import PlatformSettings, SettingsError
from services.journal.notes import NoteError, Signer, signer_name


def load_signer(settings: PlatformSettings) -> Signer:
    """Read the key file named in the settings. Raises SettingsError when it is not set or holds no such key."""
    path = settings.signing_key_file
    if path is None:
        raise SettingsError("ZHICHAO_SIGNING_KEY_FILE is not set; it is a file with an Ed25519 private key in PEM form")
    try:
        return Signer.from_pem_file(signer_name(settings.platform), path)
    except (NoteError, OSError) as error:
        raise SettingsError(f"ZHICHAO_SIGNING_KEY_FILE: {error}") from error
