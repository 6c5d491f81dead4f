"""Checkpoint notes, read and checked as the C2SP formats say (signed-note, tlog-checkpoint, tlog-cosignature). Pure."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PLAIN: Final = 0x01
_COSIGNATURE: Final = 0x04
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_DASH: Final = "\u2014"


class UnreadableNoteError(ValueError):
    """A note or key that does not have its form."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A platform's Ed25519 key under the platform's name."""

    name: str
    key: bytes

    @classmethod
    def read(cls, text: str) -> "PublicKey":
        """Read `name+hash+base64`. Raises UnreadableNoteError."""
        name, plus, rest = text.partition("+")
        stated, second_plus, encoded = rest.partition("+")
        content = _base64(encoded)
        if not (_is_name(name) and plus and second_plus) or len(content) != 1 + 32 or content[0] != _PLAIN:
            raise UnreadableNoteError("not an Ed25519 verifier key of the form name+hash+base64 不是 Ed25519 验证公钥")
        key = cls(name, content[1:])
        if stated != key.identifier(_PLAIN).hex():
            raise UnreadableNoteError(
                "the hash in the verifier key is not that of its name and key 验证公钥的校验值不符"
            )
        return key

    def text(self) -> str:
        """Return the key as `read` reads it."""
        content = base64.b64encode(bytes([_PLAIN]) + self.key).decode("ascii")
        return f"{self.name}+{self.identifier(_PLAIN).hex()}+{content}"

    def identifier(self, kind: int) -> bytes:
        """Return the four bytes by which signatures of a kind name this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([kind]) + self.key).digest()[:_KEY_ID_BYTES]

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether the signature over the message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint as read; nothing of it is checked yet."""

    log_name: str
    size: int
    root: bytes
    text: bytes
    """What plain signatures sign."""
    signatures: tuple[tuple[str, bytes, bytes], ...]
    """Name, key identifier and signature of each line."""

    @classmethod
    def read(cls, note: str) -> "Note":
        """Read a checkpoint. Raises UnreadableNoteError."""
        text, gap, tail = note.partition("\n\n")
        lines = text.split("\n")
        if not gap or len(lines) != 3 or not tail.endswith("\n"):
            raise UnreadableNoteError("not three lines, an empty line and signatures")
        name, size, root = lines
        if not (size.isascii() and size.isdecimal() and (size == "0" or size[0] != "0")):
            raise UnreadableNoteError(f"{size[:32]!r} is not a size")
        signatures = tuple(_signature(line) for line in tail.removesuffix("\n").split("\n"))
        return cls(name, int(size), _base64(root), f"{text}\n".encode(), signatures)

    def is_signed_by(self, key: PublicKey) -> bool | None:
        """Return whether the owner of the log has signed it; None when it carries no signature of this key at all."""
        identifier = key.identifier(_PLAIN)
        found = [
            key.has_signed(self.text, signature)
            for name, line_identifier, signature in self.signatures
            if name == key.name and line_identifier == identifier
        ]
        return True in found if found else None

    def cosigners(self, keys: Iterable[PublicKey], owner: PublicKey | None) -> Mapping[str, bool | None]:
        """Return, by cosigner's name, whether its cosignature is valid; None when its key is not known here."""
        found: dict[str, bool | None] = {}
        for name, key, is_valid in self._cosignatures(keys, owner):
            if key is None:
                found.setdefault(name, None)
            else:
                found[name] = is_valid
        return found

    def cosigning_keys(self, keys: Iterable[PublicKey], owner: PublicKey | None) -> frozenset[PublicKey]:
        """Return the keys by which a cosignature is valid."""
        return frozenset(key for _, key, is_valid in self._cosignatures(keys, owner) if key is not None and is_valid)

    def _cosignatures(
        self, keys: Iterable[PublicKey], owner: PublicKey | None
    ) -> Iterator[tuple[str, PublicKey | None, bool]]:
        """Yield name, key if it is known, and whether it has signed, of each line but the owner's own."""
        known = {(key.name, key.identifier(_COSIGNATURE)): key for key in keys}
        for name, identifier, signature in self.signatures:
            if owner is not None and (name, identifier) == (owner.name, owner.identifier(_PLAIN)):
                continue
            key = known.get((name, identifier))
            if key is None:
                yield name, None, False
                continue
            stamp, stamped = signature[:_TIME_BYTES], signature[_TIME_BYTES:]
            seconds = int.from_bytes(stamp, "big")
            message = f"cosignature/v1\ntime {seconds}\n".encode() + self.text
            yield name, key, len(stamped) == _SIGNATURE_BYTES and key.has_signed(message, stamped)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not _is_name(parts[1]):
        raise UnreadableNoteError("a signature line is not a dash, a name and base64")
    content = _base64(parts[2])
    if len(content) <= _KEY_ID_BYTES:
        raise UnreadableNoteError("a signature is too short")
    return parts[1], content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:]


def _is_name(name: str) -> bool:
    """Return whether a key can have this name. One with blanks would be read as something else than a name."""
    return bool(name) and name.isascii() and name.isprintable() and not set(name) & {" ", "+"}


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableNoteError(f"{text[:32]!r} is not base64") from error
