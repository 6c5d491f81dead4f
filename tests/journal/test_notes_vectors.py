"""Signatures that other implementations made, and ours byte by byte where the key is published."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.journal.notes import (
    SIGNATURE_ED25519,
    Checkpoint,
    NoteError,
    SignatureLine,
    SignedCheckpoint,
    Signer,
    VerifierKey,
    _is_valid,
    _key_id,
)

# C2SP signed-note, section "Test vectors"; and golang.org/x/mod, sumdb/note/note_test.go.
PLAIN_NOTES = [
    (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        b"This is an example message.\n",
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
    ),
    (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    ),
]
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]

# A checkpoint that a public log signed and public witnesses cosigned. The first line is a signature of a type that is
# not ours (RFC 6962 TreeHeadSignature): it is carried and ignored.
CHECKPOINT = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

\u2014 arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
\u2014 arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
\u2014 transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
\u2014 witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
\u2014 remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
"""  # noqa: E501 - as published
LOG_KEY = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
WITNESSES = {
    "remora.n621.de": "BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "transparency.dev/DEV:witness-little-garden": "BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1": "BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
}
COSIGN_SECONDS = 0x6A122120
"""What stands in the first eight bytes of all three cosignatures."""


def witness_key(name: str) -> VerifierKey:
    return VerifierKey(name, base64.b64decode(WITNESSES[name])[1:])


@pytest.mark.parametrize(("key_text", "text", "signature"), PLAIN_NOTES)
def test_published_note_signatures_verify(key_text: str, text: bytes, signature: str) -> None:
    key = VerifierKey.parse(key_text)
    content = base64.b64decode(signature)
    assert key.format() == key_text
    assert content[:4] == _key_id(key.name, SIGNATURE_ED25519, key.public_key)
    assert _is_valid(key, text, content[4:])
    assert not _is_valid(key, text + b"\n", content[4:])


def test_a_published_signing_key_gives_the_published_signature() -> None:
    key_text, text, signature = PLAIN_NOTES[1]
    signer = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETER_SEED))
    line = SignatureLine("PeterNeumann", base64.b64decode(signature)[:4], signer._private_key.sign(text))
    assert signer.verifier_key.format() == key_text
    assert line.format() == f"\u2014 PeterNeumann {signature}\n"


def test_a_published_checkpoint_is_read_and_written_byte_by_byte() -> None:
    signed = SignedCheckpoint.parse(CHECKPOINT)
    root = base64.b64decode("U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=")
    assert signed.checkpoint == Checkpoint("arche2025h1.staging.ct.transparency.dev", 1_432_088_532, root)
    assert signed.format() == CHECKPOINT


def test_a_published_checkpoint_is_signed_by_its_log_and_cosigned_by_its_witnesses() -> None:
    signed = SignedCheckpoint.parse(CHECKPOINT)
    assert signed.is_signed_by(VerifierKey.parse(LOG_KEY))
    assert {name: signed.cosigned_at(witness_key(name)) for name in WITNESSES} == dict.fromkeys(
        WITNESSES, COSIGN_SECONDS
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1432088532", "1432088533"),
        ("arche2025h1.staging.ct.transparency.dev\n1", "arche2025h2.staging.ct.transparency.dev\n1"),
        ("U7WM79jr", "V7WM79jr"),
    ],
)
def test_a_published_checkpoint_with_another_body_is_signed_by_nobody(old: str, new: str) -> None:
    signed = SignedCheckpoint.parse(CHECKPOINT.replace(old, new, 1))
    assert not signed.is_signed_by(VerifierKey.parse(LOG_KEY))
    assert [signed.cosigned_at(witness_key(name)) for name in WITNESSES] == [None] * len(WITNESSES)


def test_a_cosignature_holds_for_its_time_only() -> None:
    signed = SignedCheckpoint.parse(CHECKPOINT)
    lines = [
        SignatureLine(line.name, line.key_id, (COSIGN_SECONDS + 1).to_bytes(8, "big") + line.signature[8:])
        for line in signed.signatures
        if line.name == "remora.n621.de"
    ]
    assert SignedCheckpoint(signed.checkpoint, tuple(lines)).cosigned_at(witness_key("remora.n621.de")) is None


def test_keys_of_other_types_are_refused() -> None:
    with pytest.raises(NoteError, match="not an Ed25519 key"):
        VerifierKey.parse("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")
