"""Notes, keys, signatures and cosignatures in the C2SP formats: round trips, and every form that is refused."""

import base64
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal import notes
from services.journal.notes import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Checkpoint,
    NoteError,
    SignatureLine,
    SignedCheckpoint,
    Signer,
    VerifierKey,
    log_name,
    new_private_key_pem,
    signer_name,
)

LOG = "zhichao/141025/weighing"
ROOT = bytes(range(32))
ROOT_TEXT = base64.b64encode(ROOT).decode()
CHECKPOINT = Checkpoint(LOG, 42, ROOT)
SECONDS = 1_772_325_000


def make_signer(name: str, seed: int) -> Signer:
    return Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


COUNTY = make_signer("zhichao/141025", 1)
CITY = make_signer("zhichao/141000", 2)
PROVINCE = make_signer("zhichao/140000", 3)
SIGNED = COUNTY.sign(CHECKPOINT)
NOTE = SIGNED.format()
LINE = SIGNED.signatures[0].format()


def test_names() -> None:
    assert log_name("weighing", "141025") == LOG
    assert signer_name("141025") == "zhichao/141025"


def test_a_note_is_the_text_of_the_specification() -> None:
    encoded = base64.b64encode(SIGNED.signatures[0].key_id + SIGNED.signatures[0].signature).decode()
    assert f"{LOG}\n42\n{ROOT_TEXT}\n\n\u2014 zhichao/141025 {encoded}\n" == NOTE


def test_notes_survive_their_text() -> None:
    cosigned = PROVINCE.cosign(CITY.cosign(SIGNED, SECONDS), SECONDS + 1)
    read = SignedCheckpoint.parse(cosigned.format())
    assert read == cosigned
    assert read.is_signed_by(COUNTY.verifier_key)
    assert read.cosigned_at(CITY.verifier_key) == SECONDS
    assert read.cosigned_at(PROVINCE.verifier_key) == SECONDS + 1
    assert VerifierKey.parse(CITY.verifier_key.format()) == CITY.verifier_key


@given(
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    seconds=st.integers(0, 2**63 - 1),
)
def test_any_checkpoint_survives_its_text(size: int, root: bytes, name: str, seconds: int) -> None:
    cosigned = CITY.cosign(COUNTY.sign(Checkpoint(name, size, root)), seconds)
    read = SignedCheckpoint.parse(cosigned.format())
    assert read == cosigned
    assert read.is_signed_by(COUNTY.verifier_key)
    assert read.cosigned_at(CITY.verifier_key) == seconds


MALFORMED = {
    "nothing": "",
    "newlines": "\n\n\n\n",
    "no signature part": f"{LOG}\n42\n{ROOT_TEXT}\n",
    "no signature": f"{LOG}\n42\n{ROOT_TEXT}\n\n",
    "an empty signature line": f"{LOG}\n42\n{ROOT_TEXT}\n\n\n",
    "a gap between signatures": f"{NOTE}\n{LINE}",
    "no last newline": NOTE.removesuffix("\n"),
    "two last newlines": NOTE + "\n",
    "two lines": f"{LOG}\n42\n\n{LINE}",
    "an extension line": f"{LOG}\n42\n{ROOT_TEXT}\nmore\n\n{LINE}",
    "no log name": f"\n42\n{ROOT_TEXT}\n\n{LINE}",
    "no size": f"{LOG}\n\n{ROOT_TEXT}\n\n{LINE}",
    "a negative size": NOTE.replace("\n42\n", "\n-42\n"),
    "a signed size": NOTE.replace("\n42\n", "\n+42\n"),
    "a leading zero": NOTE.replace("\n42\n", "\n042\n"),
    "spaces about the size": NOTE.replace("\n42\n", "\n 42\n"),
    "underscores in the size": NOTE.replace("\n42\n", "\n4_2\n"),
    "wide digits": NOTE.replace("\n42\n", "\n４２\n"),
    "superscript digits": NOTE.replace("\n42\n", "\n4²\n"),
    "a size beyond 63 bits": NOTE.replace("\n42\n", f"\n{2**63}\n"),
    "a size that takes long to read": NOTE.replace("\n42\n", f"\n{'9' * 10_000}\n"),
    "carriage returns": NOTE.replace("\n", "\r\n"),
    "a root that is no base64": NOTE.replace(ROOT_TEXT, "?" * 44),
    "a root that is not even ASCII": NOTE.replace(ROOT_TEXT, "根" * 44),
    "a short root": NOTE.replace(ROOT_TEXT, base64.b64encode(ROOT[:31]).decode()),
    "a long root": NOTE.replace(ROOT_TEXT, base64.b64encode(ROOT + b"!").decode()),
    "a root in URL-safe base64": NOTE.replace(ROOT_TEXT, base64.urlsafe_b64encode(b"\xff" * 32).decode()),
    "a root with loose bits": NOTE.replace(ROOT_TEXT, f"{ROOT_TEXT[:-2]}9="),
    "a root without padding": NOTE.replace(ROOT_TEXT, ROOT_TEXT.removesuffix("=")),
    "a hyphen for the dash": NOTE.replace("\u2014", "-"),
    "no space after the dash": NOTE.replace("\u2014 ", "\u2014"),
    "no signer": NOTE.replace("zhichao/141025 ", " "),
    "a plus in the signer": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao+"),
    "a wide space in the signer": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao\u3000"),
    "a line separator in the signer": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao\u2028"),
    "a long signer": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao" + "o" * 128),
    "two spaces": NOTE.replace("141025 ", "141025  "),
    "a fourth word": NOTE.removesuffix("\n") + " more\n",
    "a signature that is no base64": f"{LOG}\n42\n{ROOT_TEXT}\n\n\u2014 name ???\n",
    "a signature that is not even ASCII": f"{LOG}\n42\n{ROOT_TEXT}\n\n\u2014 name 签名\n",
    "a signature of a key id only": f"{LOG}\n42\n{ROOT_TEXT}\n\n\u2014 name AAAAAA==\n",
    "a zero byte in the name": NOTE.replace(LOG, LOG + "\x00"),
    "a zero byte in the signer": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao\x00"),
    "a tab": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao\t"),
    "a vertical tab": NOTE.replace("\u2014 zhichao/", "\u2014 zhichao\x0b"),
    "half a surrogate pair": NOTE.replace(LOG, LOG + "\ud800"),
    "more characters than a note has": NOTE + LINE * 200,
    "more bytes than a note has": NOTE.replace(LOG, "县" * (NOTE_BYTES_MAX // 3)),
}


@pytest.mark.parametrize("note", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_notes_are_refused(note: str) -> None:
    with pytest.raises(NoteError):
        SignedCheckpoint.parse(note)


GOOD_KEY = COUNTY.verifier_key.format()
_, GOOD_ID, GOOD_BASE64 = GOOD_KEY.split("+", 2)
MALFORMED_KEYS = {
    "nothing": "",
    "pluses": "++",
    "no base64": f"zhichao/141025+{GOOD_ID}",
    "another name": GOOD_KEY.replace("141025", "141000"),
    "no name": f"+{GOOD_ID}+{GOOD_BASE64}",
    "a name with a space": GOOD_KEY.replace("/", " "),
    "a name with a newline": GOOD_KEY.replace("/", "\n"),
    "a name with a zero byte": GOOD_KEY.replace("/", "\x00"),
    "a name that is half a surrogate pair": GOOD_KEY.replace("/", "\udc00"),
    "an id in capitals": GOOD_KEY.replace(GOOD_ID, "ABCDEF01"),
    "a short id": GOOD_KEY.replace(GOOD_ID, GOOD_ID[:-1]),
    "a key that is not even ASCII": f"zhichao/141025+{GOOD_ID}+公钥",
    "a short key": f"zhichao/141025+{GOOD_ID}+{base64.b64encode(base64.b64decode(GOOD_BASE64)[:-1]).decode()}",
    "a long key": f"zhichao/141025+{GOOD_ID}+{base64.b64encode(base64.b64decode(GOOD_BASE64) + b'!').decode()}",
    "a newline at the end": GOOD_KEY + "\n",
    "a long name": GOOD_KEY.replace("zhichao", "z" * 200),
}


@pytest.mark.parametrize("text", MALFORMED_KEYS.values(), ids=MALFORMED_KEYS.keys())
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=300), st.text(alphabet="zhichao/1402w \n\u2014+=A\x00\ud800０", max_size=120)))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (SignedCheckpoint.parse, VerifierKey.parse):
        with suppress(NoteError):
            read(text)


@settings(max_examples=400)
@given(
    st.sampled_from([NOTE, CITY.cosign(SIGNED, SECONDS).format(), GOOD_KEY]),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(["delete", "insert", "replace"]), st.characters()), max_size=4
    ),
)
def test_any_change_of_a_note_is_read_the_same_again_or_refused(text: str, changes: list[tuple[int, str, str]]) -> None:
    for place, how, character in changes:
        at = place % (len(text) + 1)
        text = text[:at] + ("" if how == "delete" else character) + text[at + (how != "insert") :]
    try:
        signed = SignedCheckpoint.parse(text)
    except NoteError:
        pass
    else:
        assert signed.format() == text
        assert signed.is_signed_by(COUNTY.verifier_key) <= (signed.checkpoint == CHECKPOINT)
    try:
        key = VerifierKey.parse(text)
    except NoteError:
        pass
    else:
        assert key.format() == text


def test_only_the_key_of_the_same_name_and_bytes_has_signed() -> None:
    assert SIGNED.is_signed_by(COUNTY.verifier_key)
    assert not SIGNED.is_signed_by(CITY.verifier_key)
    assert not SIGNED.is_signed_by(VerifierKey(CITY.verifier_key.name, COUNTY.verifier_key.public_key))
    assert not SIGNED.is_signed_by(VerifierKey(COUNTY.verifier_key.name, CITY.verifier_key.public_key))


def test_a_signature_is_found_beside_forged_ones_of_the_same_name() -> None:
    (line,) = SIGNED.signatures
    forged = SignatureLine(line.name, line.key_id, bytes(64))
    assert SignedCheckpoint(CHECKPOINT, (forged, line)).is_signed_by(COUNTY.verifier_key)
    assert not SignedCheckpoint(CHECKPOINT, (forged,)).is_signed_by(COUNTY.verifier_key)


def test_a_cosignature_is_no_signature_and_the_other_way_round() -> None:
    cosigned = COUNTY.cosign(SignedCheckpoint(CHECKPOINT, ()), SECONDS)
    assert not cosigned.is_signed_by(COUNTY.verifier_key)
    assert SIGNED.cosigned_at(COUNTY.verifier_key) is None


def test_bytes_that_are_no_public_key_have_signed_nothing() -> None:
    assert not notes._is_valid(VerifierKey("name", b"short"), b"", bytes(64))
    assert not notes._is_valid(VerifierKey("name", b"\xff" * 32), b"", bytes(64))


@pytest.mark.parametrize("length", [0, 7, 8, 9, 71, 73])
def test_cosignatures_of_other_lengths_do_not_count(length: int) -> None:
    line = CITY.cosign(SIGNED, SECONDS).signatures[1]
    cut = SignatureLine(line.name, line.key_id, (line.signature + b"!")[:length])
    assert not cut.is_cosignature_form
    assert SignedCheckpoint(CHECKPOINT, (cut,)).cosigned_at(CITY.verifier_key) is None


def test_a_time_beyond_63_bits_is_no_cosignature() -> None:
    assert CITY.cosign(SIGNED, 2**63 - 1).signatures[1].is_cosignature_form
    assert not CITY.cosign(SIGNED, 2**63).signatures[1].is_cosignature_form


def test_the_first_cosignature_of_a_key_is_kept() -> None:
    first = CITY.cosign(SIGNED, SECONDS)
    assert CITY.cosign(first, SECONDS) == CITY.cosign(first, SECONDS - 60) == first
    # An earlier one gives way: times never go back.
    assert CITY.cosign(first, SECONDS + 60) == CITY.cosign(SIGNED, SECONDS + 60)
    assert first.merged(CITY.cosign(SIGNED, SECONDS + 60).signatures) == first


def test_a_forged_line_does_not_keep_the_true_cosignature_out() -> None:
    line = CITY.cosign(SIGNED, SECONDS).signatures[1]
    forged = SignatureLine(line.name, line.key_id, bytes(72))
    poisoned = SignedCheckpoint(CHECKPOINT, (*SIGNED.signatures, forged, forged))
    cosigned = CITY.cosign(poisoned, SECONDS)
    assert cosigned == CITY.cosign(SIGNED, SECONDS)


def test_merging_keeps_the_first_of_each_key_also_among_the_new() -> None:
    one, other = CITY.cosign(SIGNED, 1).signatures[1], CITY.cosign(SIGNED, 2).signatures[1]
    assert SIGNED.merged([one, other, one]).signatures == (*SIGNED.signatures, one)
    assert SIGNED.merged(SIGNED.signatures) == SIGNED


def many_lines(count: int) -> list[SignatureLine]:
    return [SignatureLine(f"name/{number}", bytes(4), bytes(72)) for number in range(count)]


def test_no_more_signatures_are_kept_than_every_reader_takes() -> None:
    full = SIGNED.merged(many_lines(100))
    assert len(full.signatures) == SIGNATURES_MAX
    cosigned = CITY.cosign(full, SECONDS)
    assert len(cosigned.signatures) == SIGNATURES_MAX
    assert cosigned.is_signed_by(COUNTY.verifier_key)
    assert cosigned.cosigned_at(CITY.verifier_key) == SECONDS


def test_the_longest_note_that_is_kept_can_be_read_again() -> None:
    long_names = [SignatureLine("县" * 124 + f"{number:04}", bytes(4), bytes(72)) for number in range(100)]
    kept = CITY.cosign(SIGNED.merged(long_names), SECONDS)
    assert SignedCheckpoint.parse(kept.format()) == kept


def test_a_receiver_keeps_the_valid_signature_and_what_may_be_cosignatures() -> None:
    (line,) = SIGNED.signatures
    city = CITY.cosign(SIGNED, SECONDS).signatures[1]
    forged = SignatureLine(line.name, line.key_id, bytes(64))
    other = SignatureLine("zhichao/999999", bytes(4), b"whatever a peer writes here")
    received = SignedCheckpoint(CHECKPOINT, (other, forged, city, line, forged))
    assert received.verified(COUNTY.verifier_key) == SignedCheckpoint(CHECKPOINT, (line, city))
    assert received.verified(PROVINCE.verifier_key) is None


def test_a_key_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(new_private_key_pem())
    one, again = Signer.from_pem_file("zhichao/141025", path), Signer.from_pem_file("zhichao/141025", path)
    assert one.verifier_key == again.verifier_key
    assert one.sign(CHECKPOINT) == again.sign(CHECKPOINT)


def test_other_key_files_are_refused_with_clear_words(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other_kind = generate_private_key(SECP256R1())
    encrypted = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    contents = {
        b"": "holds no private key in PEM form",
        b"\xff\xfe": "holds no private key in PEM form",
        other_kind.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()): "does not hold an Ed25519 key",
        encrypted: "encrypted",
    }
    for content, words in contents.items():
        path.write_bytes(content)
        with pytest.raises(NoteError, match=words):
            Signer.from_pem_file("zhichao/141025", path)
    with pytest.raises(OSError, match="No such file"):
        Signer.from_pem_file("zhichao/141025", tmp_path / "absent.pem")


@pytest.mark.parametrize("name", ["", "two words", "a+b", "n" * 129])
def test_nobody_signs_under_a_name_that_nobody_can_read(name: str) -> None:
    with pytest.raises(NoteError):
        make_signer(name, 1)
