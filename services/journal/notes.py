"""Signed notes, checkpoints and cosignatures in the C2SP formats (signed-note, tlog-checkpoint, tlog-cosignature).

Pure but for the clock value passed in. Ed25519 throughout; the signature type byte in each key names the algorithm.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from services.journal.digests import DIGEST_BYTES

SIGNATURE_ED25519: Final = 0x01
"""Signature type of an Ed25519 note signature (C2SP signed-note)."""

SIGNATURE_COSIGNATURE: Final = 0x04
"""Signature type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature)."""

SIGNATURE_MARK: Final = "\u2014 "
"""Signature lines begin with an em dash and a space (C2SP signed-note)."""

NOTE_BYTES_MAX: Final = 16_384
"""Largest note taken: a checkpoint of three lines and SIGNATURES_MAX signatures with the longest names stays below."""

SIGNATURES_MAX: Final = 16
"""Signatures kept with one checkpoint: the least that every verifier takes (C2SP signed-note), and more than levels."""

NAME_CHARACTERS_MAX: Final = 128
"""Longest key name taken: ours have 14 characters, host names with a path some dozens."""

SIZE_MAX: Final = 2**63 - 1
"""Largest size of a log: sizes are int64 in messages and tables."""

TIME_SECONDS_MAX: Final = 2**63 - 1
"""Latest time of a cosignature (C2SP tlog-cosignature)."""

_KEY_ID_BYTES: Final = 4
_PUBLIC_KEY_BYTES: Final = 32
_TIMESTAMP_BYTES: Final = 8
_ED25519_BYTES: Final = 64
_CHECKPOINT_LINES: Final = 3
_VERIFIER_KEY_PARTS: Final = 3
_SIZE_DIGITS_MAX: Final = len(str(SIZE_MAX))
_FIRST_PRINTABLE: Final = " "


class NoteError(ValueError):
    """A note, key or signature that does not parse or does not verify."""


def _key_id(name: str, kind: int, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:_KEY_ID_BYTES]


def _decode(text: str, what: str) -> bytes:
    """Read base64 in its one canonical form: then what was signed is the same text when it is written again."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError(f"{what} is not base64") from error
    if base64.b64encode(content).decode() != text:
        raise NoteError(f"{what} is not base64 in its canonical form")
    return content


def _check_text(text: str, bytes_max: int, what: str) -> None:
    """Refuse what is no text of a note (C2SP signed-note): it could be neither signed nor stored as it came."""
    try:
        length = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise NoteError(f"{what} is not Unicode text") from error
    if length > bytes_max:
        raise NoteError(f"{what} has {length} bytes, more than {bytes_max}")
    if any(character < _FIRST_PRINTABLE and character != "\n" for character in text):
        raise NoteError(f"{what} holds control characters")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise NoteError(f"a key name has 1 to {NAME_CHARACTERS_MAX} characters, this one has {len(name)}")
    if "+" in name or any(character.isspace() for character in name):
        raise NoteError("a key name holds neither spaces nor plus signs")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name that it signs under."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `name+hash+base64`. Raises NoteError."""
        _check_text(text, NOTE_BYTES_MAX, "the verifier key")
        parts = text.split("+", _VERIFIER_KEY_PARTS - 1)
        if len(parts) != _VERIFIER_KEY_PARTS:
            raise NoteError("a verifier key has the form name+hash+base64")
        name, key_id, encoded = parts
        _check_name(name)
        content = _decode(encoded, "the verifier key")
        if len(content) != 1 + _PUBLIC_KEY_BYTES or content[0] != SIGNATURE_ED25519:
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

    @property
    def is_cosignature_form(self) -> bool:
        """Whether this has the form of a timestamped Ed25519 cosignature; whose it is, only its key tells."""
        return (
            len(self.signature) == _TIMESTAMP_BYTES + _ED25519_BYTES
            and int.from_bytes(self.signature[:_TIMESTAMP_BYTES], "big") <= TIME_SECONDS_MAX
        )

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
        _check_text(note, NOTE_BYTES_MAX, "the note")
        body, separator, tail = note.partition("\n\n")
        lines = body.split("\n")
        if not separator or len(lines) < _CHECKPOINT_LINES or not tail.endswith("\n"):
            raise NoteError("a checkpoint has three lines, an empty line and signature lines")
        if len(lines) > _CHECKPOINT_LINES:
            raise NoteError("checkpoints with extension lines are not in use")
        log_name, size_text, root_text = lines
        if not log_name:
            raise NoteError("the checkpoint names no log")
        root = _decode(root_text, "the checkpoint's root")
        if len(root) != DIGEST_BYTES:
            raise NoteError(f"the checkpoint's root has {len(root)} bytes, not {DIGEST_BYTES}")
        checkpoint = Checkpoint(log_name, _parse_size(size_text), root)
        return cls(checkpoint, tuple(map(_parse_signature, tail.removesuffix("\n").split("\n"))))

    def format(self) -> str:
        """Return the note."""
        return self.checkpoint.body() + "\n" + "".join(line.format() for line in self.signatures)

    def merged(self, signatures: Iterable[SignatureLine]) -> "SignedCheckpoint":
        """Return the note with more signatures, SIGNATURES_MAX at most; of two by one key the first is kept."""
        kept: dict[tuple[str, bytes], SignatureLine] = {}
        for line in (*self.signatures, *signatures):
            kept.setdefault((line.name, line.key_id), line)
        return SignedCheckpoint(self.checkpoint, tuple(kept.values())[:SIGNATURES_MAX])

    def verified(self, key: VerifierKey) -> "SignedCheckpoint | None":
        """Return the note as a receiver keeps it: its origin's valid signature, then what may be cosignatures.

        None when this key has not signed it. Everything else that a peer wrote beside the signatures is left behind.
        """
        message = self.checkpoint.body().encode()
        key_id = _key_id(key.name, SIGNATURE_ED25519, key.public_key)
        for line in self.signatures:
            if (line.name, line.key_id) == (key.name, key_id) and _is_valid(key, message, line.signature):
                others = [other for other in self.signatures if other.is_cosignature_form]
                return SignedCheckpoint(self.checkpoint, (line,)).merged(others)
        return None

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Return whether the note carries a valid plain signature of this key."""
        return self.verified(key) is not None

    def cosigned_at(self, key: VerifierKey) -> int | None:
        """Return the Unix time of this key's valid cosignature, or None when there is none."""
        line = self._cosignature_of(key)
        return _seconds_of(line) if line else None

    def with_cosignature_of(
        self, key: VerifierKey, seconds: int, make: Callable[[], SignatureLine]
    ) -> "SignedCheckpoint":
        """Return the note with one cosignature of this key: the valid one that is there and not earlier, or a new one.

        What merely stands under the key's name and id is dropped: a forged line must not keep the true one out.
        """
        held = self._cosignature_of(key)
        line = held if held is not None and _seconds_of(held) >= seconds else make()
        others = [other for other in self.signatures if (other.name, other.key_id) != (line.name, line.key_id)]
        return SignedCheckpoint(self.checkpoint, (*others[: SIGNATURES_MAX - 1], line))

    def _cosignature_of(self, key: VerifierKey) -> SignatureLine | None:
        key_id = _key_id(key.name, SIGNATURE_COSIGNATURE, key.public_key)
        for line in self.signatures:
            if (line.name, line.key_id) != (key.name, key_id) or not line.is_cosignature_form:
                continue
            if _is_valid(key, _cosigned_message(self.checkpoint, _seconds_of(line)), line.signature[_TIMESTAMP_BYTES:]):
                return line
        return None


def _seconds_of(cosignature: SignatureLine) -> int:
    return int.from_bytes(cosignature.signature[:_TIMESTAMP_BYTES], "big")


def _parse_size(text: str) -> int:
    # The digits are counted first: reading a number of thousands of them is slow, and refused by the interpreter.
    if not (text.isascii() and text.isdecimal() and len(text) <= _SIZE_DIGITS_MAX):
        raise NoteError("the checkpoint's size is not a decimal number")
    size = int(text)
    if str(size) != text or size > SIZE_MAX:
        raise NoteError("the checkpoint's size is not a decimal number without leading zeros, below 2**63")
    return size


def _parse_signature(line: str) -> SignatureLine:
    name, separator, encoded = line.removeprefix(SIGNATURE_MARK).partition(" ")
    if not line.startswith(SIGNATURE_MARK) or not separator:
        raise NoteError("a signature line has the form of an em dash, a name and base64")
    _check_name(name)
    content = _decode(encoded, "a signature")
    if len(content) <= _KEY_ID_BYTES:
        raise NoteError("a signature is too short")
    return SignatureLine(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _is_valid(key: VerifierKey, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        # ValueError: bytes that are no public key at all.
        return False
    return True


def _cosigned_message(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.body()}".encode()


class Signer:
    """Signs and cosigns checkpoints with one Ed25519 key under the platform's name."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        _check_name(name)
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
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NoteError(f"{path} holds no private key in PEM form") from error
        except TypeError as error:
            raise NoteError(f"{path} holds an encrypted private key; it must be readable without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise NoteError(f"{path} does not hold an Ed25519 key")
        return cls(name, key)

    def sign(self, checkpoint: Checkpoint) -> SignedCheckpoint:
        """Return the checkpoint signed as its origin."""
        line = SignatureLine(self.verifier_key.name, self._sign_id, self._private_key.sign(checkpoint.body().encode()))
        return SignedCheckpoint(checkpoint, (line,))

    def cosign(self, signed: SignedCheckpoint, seconds: int) -> SignedCheckpoint:
        """Return the note with this key's cosignature of the given Unix time.

        One that it carries already is kept if it is not of an earlier time: a note that comes back after we were
        restored from a backup must not make our times go back.
        """

        def make() -> SignatureLine:
            signature = self._private_key.sign(_cosigned_message(signed.checkpoint, seconds))
            stamped = seconds.to_bytes(_TIMESTAMP_BYTES, "big") + signature
            return SignatureLine(self.verifier_key.name, self._cosign_id, stamped)

        return signed.with_cosignature_of(self.verifier_key, seconds, make)


def new_private_key_pem() -> bytes:
    """Return a new Ed25519 private key in PKCS #8 PEM form."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def log_name(stream: str, origin: str) -> str:
    """Return the origin line of a log's checkpoints."""
    return f"zhichao/{origin}/{stream}"


def signer_name(platform: str) -> str:
    """Return the name under which a platform signs."""
    return f"zhichao/{platform}"
