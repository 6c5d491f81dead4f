"""Bytes that come again are put, and are what the store gives, whatever lay under their digest before."""

from typing import Any, cast

import pytest

from services.video.domain import BytesState
from services.video.object_store import ObjectStore, PutResult, StoreRefusedError, StoreUnavailableError, object_key
from services.video.store.custody import Named
from tests.video.keeping.harness import Kept

RIGHT = b"original"
WRONG = b"CHANGED!"


def upload(kept: Kept, evidence: Named, content: bytes = RIGHT) -> None:
    """Put bytes as an upload does that has compared them."""
    kept.parts.put_checked(
        evidence.digest, len(content), lambda: kept.objects.put(evidence.digest, content, len(content))
    )


def grow_old(kept: Kept) -> None:
    """Let the last check of everything be long ago."""
    kept.execute("UPDATE objects SET stored_time = now() - interval '9 days', scrub_time = NULL")


@pytest.mark.parametrize("is_marked", [True, False], ids=["known to be damaged", "not known to be"])
@pytest.mark.parametrize("is_locked", [True, False], ids=["locked", "not locked"])
def test_wrong_bytes_of_the_right_size_make_room(kept: Kept, is_marked: bool, is_locked: bool) -> None:
    evidence = kept.seal(RIGHT)
    kept.destroy(evidence.digest)
    kept.overwrite(evidence.digest, WRONG)
    if is_locked:
        kept.lock(evidence.digest)
    if is_marked:
        kept.scrub()
    grow_old(kept)

    upload(kept, evidence)

    assert kept.content(evidence.digest) == RIGHT
    assert kept.actions(evidence) == ["FOUND_CHANGED", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD


def test_bytes_that_are_gone_are_put_and_written_down(kept: Kept) -> None:
    evidence = kept.seal(RIGHT)
    kept.destroy(evidence.digest)
    kept.scrub()

    upload(kept, evidence)

    assert kept.content(evidence.digest) == RIGHT
    assert kept.actions(evidence) == ["FOUND_MISSING", "RESTORED"]


def test_nothing_is_written_down_while_the_store_gives_other_bytes(kept: Kept) -> None:
    """Whatever the cause: here somebody writes over each version at once."""
    evidence = kept.seal(RIGHT)
    kept.overwrite(evidence.digest, WRONG)
    kept.destroy(evidence.digest)
    kept.overwrite(evidence.digest, WRONG)
    kept.scrub()

    def put() -> PutResult:
        result = kept.objects.put(evidence.digest, RIGHT, len(RIGHT))
        kept.overwrite(evidence.digest, WRONG)
        return result

    with pytest.raises(StoreRefusedError):
        kept.parts.put_checked(evidence.digest, len(RIGHT), put)

    assert kept.actions(evidence) == ["FOUND_CHANGED"]
    assert kept.state(evidence.digest) == BytesState.DAMAGED


def test_wrong_bytes_under_a_digest_that_nobody_has_sealed_yet_make_room(kept: Kept) -> None:
    evidence = kept.seal(RIGHT, is_stored=False)
    kept.execute("DELETE FROM objects")
    kept.overwrite(evidence.digest, WRONG)

    upload(kept, evidence)

    assert kept.content(evidence.digest) == RIGHT


def test_what_was_read_today_is_not_read_again(kept: Kept) -> None:
    evidence, _ = kept.seal(RIGHT), kept.seal(b"another one")
    kept.cannot_read(evidence.digest)

    upload(kept, evidence)

    assert len(kept.objects.versions(object_key(evidence.digest))) == 1


def test_bytes_that_the_store_cannot_read_are_hidden_and_put_anew(kept: Kept) -> None:
    evidence, _ = kept.seal(RIGHT), kept.seal(b"another one")
    grow_old(kept)
    kept.cannot_read(evidence.digest)

    upload(kept, evidence)

    assert kept.content(evidence.digest) == RIGHT
    # Nobody is accused, and what may be right is not removed.
    assert kept.actions(evidence) == []
    assert len([one for one in kept.objects.versions(object_key(evidence.digest)) if not one.is_delete_marker]) == 2


def test_without_versions_nothing_is_removed_that_may_be_right(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, _ = kept.seal(RIGHT), kept.seal(b"another one")
    grow_old(kept)
    store = kept.cannot_read(evidence.digest)
    monkeypatch.setattr(store, "hide", lambda key: False, raising=False)

    with pytest.raises(StoreUnavailableError):
        upload(kept, evidence)

    assert kept.is_stored(evidence.digest)


def test_what_the_store_has_kept_is_brought_back_before_anything_is_removed(kept: Kept) -> None:
    """The store may be full, or go away, before the bytes that come are there."""
    evidence = kept.seal(RIGHT)
    kept.overwrite(evidence.digest, WRONG)
    grow_old(kept)
    answers = [kept.objects.put(evidence.digest, RIGHT, len(RIGHT))]

    kept.parts.put_checked(evidence.digest, len(RIGHT), answers.pop)

    assert kept.content(evidence.digest) == RIGHT
    assert kept.actions(evidence) == ["FOUND_CHANGED", "RESTORED"]


class PutMeanwhile:
    """A store in which somebody else puts the right bytes, and seals them, right before something is removed."""

    def __init__(self, kept: Kept, evidence: Named) -> None:
        self._kept = kept
        self._evidence = evidence

    def __getattr__(self, name: str) -> Any:
        if name in ("delete", "remove_version"):
            self._kept.overwrite(self._evidence.digest, RIGHT)
        return getattr(self._kept.objects, name)


def test_right_bytes_that_come_while_room_is_made_stay(kept: Kept) -> None:
    evidence = kept.seal(RIGHT, is_stored=False)
    kept.overwrite(evidence.digest, WRONG)

    is_made = kept.build(cast("ObjectStore", PutMeanwhile(kept, evidence))).make_room(evidence.digest, len(RIGHT))

    assert (is_made, kept.content(evidence.digest)) == (False, RIGHT)
