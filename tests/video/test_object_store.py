"""Keys of the evidence store, and what callers are told when it fails."""

import re
from pathlib import Path

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.object_store import (
    BucketMissingError,
    BytesDifferError,
    ObjectMissingError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UploadGoneError,
    WrongCredentialsError,
    as_service_error,
    digest_of,
    object_key,
    rendition_key,
    staging_key,
    translate_store_errors,
)

SERVICE = Path(__file__).parents[2] / "services" / "video"
# Those that stand between the service and the client of the store.
CLIENT_MODULES = re.compile(r"s3_[a-z]+|lock_self_test")
DIGEST = bytes(range(32))
HEX = DIGEST.hex()


def test_the_client_of_the_store_stays_behind_the_interface() -> None:
    imports = re.compile(r"^\s*(?:from|import) (?:minio|urllib3)\b", re.MULTILINE)
    found = [path.stem for path in SERVICE.rglob("*.py") if imports.search(path.read_text("utf-8"))]
    assert [name for name in found if CLIENT_MODULES.fullmatch(name) is None] == []


def test_an_object_is_named_by_its_digest() -> None:
    assert object_key(DIGEST) == f"sha256/00/{HEX}"


@pytest.mark.parametrize("digest", [b"", DIGEST[:31], DIGEST + b"x"])
def test_what_is_no_digest_names_no_object(digest: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        object_key(digest)


def test_the_digest_is_found_in_the_key() -> None:
    assert digest_of(object_key(DIGEST)) == DIGEST


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"sha256/01/{HEX}",
        f"sha256/00/{HEX.upper()}",
        f"sha256/00/{HEX}/poster",
        f"x/sha256/00/{HEX}",
        rendition_key(DIGEST, "poster"),
        "uploads/00112233445566778899aabbccddeeff",
    ],
)
def test_other_keys_name_no_digest(key: str) -> None:
    assert digest_of(key) is None


def test_previews_lie_by_the_digest_of_what_they_show() -> None:
    assert rendition_key(DIGEST, "poster") == f"renditions/00/{HEX}/poster"


def test_staging_keys_are_never_the_same() -> None:
    assert len({staging_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (StoreUnavailableError("secret place"), 5.0),
        (StoreFullError("secret place"), 60.0),
        (BucketMissingError("secret place"), 60.0),
        (WrongCredentialsError("secret place"), 60.0),
        (BytesDifferError("secret place"), 60.0),
        (UploadGoneError("secret place"), 60.0),
        (ObjectMissingError("uploads/secret place"), 60.0),
    ],
)
def test_callers_are_told_when_to_come_again_and_nothing_of_the_store(error: StoreError, seconds: float) -> None:
    told = as_service_error(error)
    assert (told.reason, told.retry_after_seconds, "secret" in f"{told.message}{told.metadata}") == (
        Reason.OBJECT_STORE_UNAVAILABLE,
        seconds,
        False,
    )


def test_callers_are_told_that_the_store_has_lost_bytes() -> None:
    told = as_service_error(ObjectMissingError(object_key(DIGEST)))
    assert (told.reason, told.retry_after_seconds, dict(told.metadata)) == (
        Reason.EVIDENCE_MISSING,
        None,
        {"digest": HEX},
    )


def test_errors_of_the_store_become_refusals() -> None:
    with pytest.raises(ServiceError) as refused, translate_store_errors():
        raise StoreFullError("no room")
    assert (refused.value.reason, isinstance(refused.value.__cause__, StoreFullError)) == (
        Reason.OBJECT_STORE_UNAVAILABLE,
        True,
    )
