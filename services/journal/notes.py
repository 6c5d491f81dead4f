"""Signed notes, checkpoints and cosignatures in the C2SP formats (signed-note, tlog-checkpoint, tlog-cosignature).

Pure but for the clock value passed in. Ed25519 throughout; the signature type byte in each key names the algorithm.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

SIGNATURE_ED25519: Final = 0x01
"""Signature type of an Ed25519 note signature (C2SP signed-note)."""

SIGNATURE_COSIGNATURE: Final = 0x04
"""Signature type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature)."""

SIGNATURE_MARK: Final = "\u2014 "
"""Signature lines begin with an em dash and a space (C2SP signed-note)."""

NOTE_BYTES_MAX: Final = 16_384
"""Largest note taken: a checkpoint of three lines and some dozens of cosignatures stays far below."""

_KEY_ID_BYTES: Final = 4
_TIMESTAMP_BYTES: Final = 8
_CHECKPOINT_LINES_MIN: Final = 3


class NoteError(ValueError):
    """A note, key or signature that does not parse or does not verify."""


def _key_id(name: str, kind: int, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name that it signs under."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `name+hash+base64`. Raises NoteError."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise NoteError("a verifier key has the form name+hash+base64")
        name, key_id, encoded = parts
        try:
            content = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise NoteError("the verifier key is not base64") from error
        if len(content) != 33 or content[0] != SIGNATURE_ED25519:
            raise NoteError("the verifier key is not an Ed25519 key")
        key = cls(name, content[1:])
        if key_id != _key_id(name, SIGNATURE_ED25519, key.public_key).hex():
            raise NoteError("the verifier key's hash does not belong to its name and key")
        return key

    def format(self) -> str:
        """Return the key as `name+hash+base64`."""
        key_id = _key_id(self.name, SIGNATURE_ED25519, self.public_key).hex()
        return f"{self.name}+{key_id}+{base64.b64encode(bytes([SIGNATURE_ED25519]) + self.public_key).decode()}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Size and root of one log, as signed."""

    log_name: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the signed text."""
        return f"{self.log_name}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature of a note: signer's name, key id and signature bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def format(self) -> str:
        """Return the line with its newline."""
        return f"{SIGNATURE_MARK}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signatures."""

    checkpoint: Checkpoint
    signatures: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, note: str) -> "SignedCheckpoint":
        """Read a note. Raises NoteError; verifies nothing."""
        if len(note) > NOTE_BYTES_MAX:
            raise NoteError(f"the note has {len(note)} characters, more than {NOTE_BYTES_MAX}")
        body, separator, tail = note.partition("\n\n")
        lines = body.split("\n")
        if not separator or len(lines) < _CHECKPOINT_LINES_MIN or not note.endswith("\n"):
            raise NoteError("a checkpoint has three lines, an empty line and signature lines")
        if len(lines) > _CHECKPOINT_LINES_MIN:
            raise NoteError("checkpoints with extension lines are not in use")
        log_name, size_text, root_text = lines
        try:
            root = base64.b64decode(root_text, validate=True)
        except binascii.Error as error:
            raise NoteError("the checkpoint's root is not base64") from error
        if not (size_text.isascii() and size_text.isdecimal()) or str(int(size_text)) != size_text:
            raise NoteError("the checkpoint's size is not a decimal number")
        return cls(Checkpoint(log_name, int(size_text), root), tuple(map(_parse_signature, tail.splitlines())))

    def format(self) -> str:
        """Return the note."""
        return self.checkpoint.body() + "\n" + "".join(line.format() for line in self.signatures)

    def merged(self, signatures: Iterable[SignatureLine]) -> "SignedCheckpoint":
        """Return the note with more signatures; of two by one key the first is kept."""
        known = {(line.name, line.key_id) for line in self.signatures}
        more = [line for line in signatures if (line.name, line.key_id) not in known]
        return SignedCheckpoint(self.checkpoint, self.signatures + tuple(more))

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Return whether the note carries a valid plain signature of this key."""
        key_id = _key_id(key.name, SIGNATURE_ED25519, key.public_key)
        message = self.checkpoint.body().encode()
        return any(_is_valid(key, message, line.signature) for line in self.signatures
                   if (line.name, line.key_id) == (key.name, key_id))  # fmt: skip

    def cosigned_at(self, key: VerifierKey) -> int | None:
        """Return the Unix time of this key's valid cosignature, or None when there is none."""
        key_id = _key_id(key.name, SIGNATURE_COSIGNATURE, key.public_key)
        for line in self.signatures:
            if (line.name, line.key_id) != (key.name, key_id) or len(line.signature) <= _TIMESTAMP_BYTES:
                continue
            seconds = int.from_bytes(line.signature[:_TIMESTAMP_BYTES], "big")
            if _is_valid(key, _cosigned_message(self.checkpoint, seconds), line.signature[_TIMESTAMP_BYTES:]):
                return seconds
        return None


def _parse_signature(line: str) -> SignatureLine:
    name, separator, encoded = line.removeprefix(SIGNATURE_MARK).partition(" ")
    if not line.startswith(SIGNATURE_MARK) or not separator or not name:
        raise NoteError("a signature line has the form of an em dash, a name and base64")
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise NoteError("a signature is not base64") from error
    if len(content) <= _KEY_ID_BYTES:
        raise NoteError("a signature is too short")
    return SignatureLine(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _is_valid(key: VerifierKey, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _cosigned_message(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.body()}".encode()


class Signer:
    """Signs and cosigns checkpoints with one Ed25519 key under the platform's name."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        public_key = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier_key = VerifierKey(name, public_key)
        self._sign_id = _key_id(name, SIGNATURE_ED25519, public_key)
        self._cosign_id = _key_id(name, SIGNATURE_COSIGNATURE, public_key)

    @classmethod
    def from_pem_file(cls, name: str, path: Path) -> "Signer":
        """Read the private key. Raises NoteError for another kind of key and OSError when the file cannot be read."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except ValueError as error:
            raise NoteError(f"{path} holds no private key in PEM form") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise NoteError(f"{path} does not hold an Ed25519 key")
        return cls(name, key)

    def sign(self, checkpoint: Checkpoint) -> SignedCheckpoint:
        """Return the checkpoint signed as its origin."""
        line = SignatureLine(self.verifier_key.name, self._sign_id, self._private_key.sign(checkpoint.body().encode()))
        return SignedCheckpoint(checkpoint, (line,))

    def cosign(self, signed: SignedCheckpoint, seconds: int) -> SignedCheckpoint:
        """Return the note with this key's cosignature of the given Unix time added."""
        signature = self._private_key.sign(_cosigned_message(signed.checkpoint, seconds))
        stamped = seconds.to_bytes(_TIMESTAMP_BYTES, "big") + signature
        return signed.merged([SignatureLine(self.verifier_key.name, self._cosign_id, stamped)])


def new_private_key_pem() -> bytes:
    """Return a new Ed25519 private key in PKCS #8 PEM form."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def log_name(stream: str, origin: str) -> str:
    """Return the origin line of a log's checkpoints."""
    return f"zhichao/{origin}/{stream}"


def signer_name(platform: str) -> str:
    """Return the name under which a platform signs."""
    return f"zhichao/{platform}"
