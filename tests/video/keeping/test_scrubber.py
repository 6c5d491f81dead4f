"""The scrubber finds what was lost or changed in the store, writes it down once, and heals what the store has kept."""

from datetime import timedelta

import pytest

from cli.platform_layout import free_port
from services.video.domain import BytesState
from services.video.object_store import ObjectMissingError, StoreUnavailableError, object_key
from tests.video.keeping.harness import Kept


def test_what_is_right_is_left_alone(kept: Kept) -> None:
    evidence = [kept.seal(f"content {number}".encode()) for number in range(5)]

    kept.scrub()

    assert [kept.actions(one) for one in evidence] == [[]] * 5
    assert kept.value("SELECT count(*) FROM objects WHERE scrub_time IS NOT NULL") == 5
    assert kept.value("SELECT scrub_complete_time FROM scrub_state") is not None


def test_the_one_whose_last_check_is_the_oldest_is_read_first(kept: Kept) -> None:
    evidence = [kept.seal(f"content {number}".encode()) for number in range(4)]
    for days, one in zip((3, 9, 2, 5), evidence, strict=True):
        kept.execute("UPDATE objects SET scrub_time = now() - %s WHERE digest = %s", timedelta(days=days), one.digest)
    order = []
    for _ in evidence:
        kept.parts.scrubber.step()
        order.append(kept.value("SELECT digest FROM objects ORDER BY scrub_time DESC LIMIT 1"))

    assert order == [evidence[index].digest for index in (1, 3, 0, 2)]


def test_what_was_read_a_moment_ago_is_not_read_again(kept: Kept) -> None:
    kept.seal(b"content")

    assert kept.parts.scrubber.step() > 0
    assert kept.value("SELECT scrub_time FROM objects") is None


def test_an_object_that_is_gone_for_good_is_written_down_once(kept: Kept) -> None:
    evidence = kept.seal(b"gone")
    kept.destroy(evidence.digest)

    kept.scrub()
    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_MISSING"]
    assert kept.state(evidence.digest) == BytesState.DAMAGED


def test_a_deletion_that_the_store_has_kept_is_undone(kept: Kept) -> None:
    evidence = kept.seal(b"hidden")
    kept.hide(evidence.digest)
    with pytest.raises(ObjectMissingError):
        kept.objects.stat(object_key(evidence.digest))

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_MISSING", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD
    assert b"".join(kept.objects.read(object_key(evidence.digest))) == b"hidden"


@pytest.mark.parametrize("other", [b"CHANGED!", b"changed and longer"], ids=["of the same size", "longer"])
def test_a_version_that_was_put_over_it_is_removed(kept: Kept, other: bytes) -> None:
    evidence = kept.seal(b"original")
    kept.overwrite(evidence.digest, other)

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_CHANGED", "RESTORED"]
    assert b"".join(kept.objects.read(object_key(evidence.digest))) == b"original"


def test_what_lies_under_a_deletion_and_a_change_comes_back(kept: Kept) -> None:
    evidence = kept.seal(b"original")
    kept.overwrite(evidence.digest, b"CHANGED!")
    kept.hide(evidence.digest)

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_MISSING", "RESTORED"]
    assert b"".join(kept.objects.read(object_key(evidence.digest))) == b"original"


def test_wrong_bytes_without_right_ones_are_kept_and_written_down_once(kept: Kept) -> None:
    evidence = kept.seal(b"original")
    kept.destroy(evidence.digest)
    kept.overwrite(evidence.digest, b"CHANGED!")

    kept.scrub()
    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_CHANGED"]
    assert kept.state(evidence.digest) == BytesState.DAMAGED
    # They may be what somebody has to look at.
    assert b"".join(kept.objects.read(object_key(evidence.digest))) == b"CHANGED!"


def test_what_somebody_has_put_right_is_held_again(kept: Kept) -> None:
    evidence = kept.seal(b"original")
    kept.destroy(evidence.digest)
    kept.scrub()
    kept.overwrite(evidence.digest, b"original")

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_MISSING", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD


def test_all_evidence_of_the_bytes_has_it_in_its_custody(kept: Kept) -> None:
    first, second = kept.seal(b"same", "first"), kept.seal(b"same", "second")
    kept.destroy(first.digest)

    kept.scrub()

    assert (kept.actions(first), kept.actions(second)) == (["FOUND_MISSING"], ["FOUND_MISSING"])


def test_a_store_that_is_away_accuses_nobody(kept: Kept) -> None:
    evidence = kept.seal(b"content")
    away = kept.store(endpoint=f"http://127.0.0.1:{free_port()}")
    kept.clock.moved = timedelta(days=2)

    with pytest.raises(StoreUnavailableError):
        kept.build(away).scrubber.step()

    assert kept.actions(evidence) == []
    kept.scrub()
    assert kept.state(evidence.digest) == BytesState.HELD


def test_a_round_that_was_interrupted_goes_on_where_it_stood(kept: Kept) -> None:
    for number in range(4):
        kept.seal(f"content {number}".encode())
    kept.clock.moved = timedelta(days=2)
    kept.parts.scrubber.step()
    kept.parts.scrubber.step()

    kept.parts = kept.build()
    steps = 0
    while kept.parts.scrubber.step() == 0.0:
        steps += 1

    assert kept.value("SELECT count(*) FROM objects WHERE scrub_time IS NOT NULL") == 4
    # Two objects that were left, and the end of the round.
    assert steps <= 3
