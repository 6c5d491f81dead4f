"""The scrubber finds what was lost or changed in the store, writes it down once, and heals what the store has kept."""

from datetime import timedelta

import pytest

from cli.platform_layout import free_port
from services.video.checking import suspect
from services.video.domain import BytesState
from services.video.evidence_standing import read_standing
from services.video.keeping_rules import UNREAD_MAX, UNREAD_RETRY
from services.video.object_store import ObjectMissingError, StoreUnavailableError, object_key
from services.video.scrubber import DAMAGED_PAGE
from tests.video.keeping.harness import Kept
from tests.video.keeping.silent_object import with_silent_object
from tests.video.stores.contents import content

CLIP_BYTES = 300_000


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


def test_what_lies_under_a_wrong_version_that_is_locked_is_copied_over_it(kept: Kept) -> None:
    evidence = kept.seal(b"original")
    kept.overwrite(evidence.digest, b"CHANGED!")
    kept.lock(evidence.digest)

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_CHANGED", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD
    assert kept.content(evidence.digest) == b"original"
    # The copy is locked like what it was copied from, once the follower comes.
    assert kept.value("SELECT count(*) FROM lock_changes WHERE digest = %s", evidence.digest) == 1


def test_bits_that_rot_on_the_disk_of_the_store_are_found_and_keep_no_other_object_from_being_read(kept: Kept) -> None:
    rotten, *others = [kept.seal(content(CLIP_BYTES, seed).data) for seed in range(4)]
    kept.execute("UPDATE objects SET scrub_time = now() - interval '9 days' WHERE digest = %s", rotten.digest)
    kept.rot(content(CLIP_BYTES, 0).data)

    kept.scrub()

    # One failure accuses nobody; it is a figure.
    assert kept.actions(rotten) == []
    assert kept.state(rotten.digest) == BytesState.HELD
    assert kept.value("SELECT count(*) FROM objects WHERE scrub_time > stored_time") == len(others)
    assert read_standing(kept.engine).troubles.unread_count == 1
    assert kept.value("SELECT scrub_complete_time FROM scrub_state") is not None


def test_what_the_store_has_not_read_for_hours_is_written_down_as_changed(kept: Kept) -> None:
    rotten, _ = kept.seal(b"rotten"), kept.seal(b"another one")
    kept.cannot_read(rotten.digest)
    kept.scrub()
    for _ in range(UNREAD_MAX - 2):
        kept.clock.moved += UNREAD_RETRY
        kept.work()
    assert kept.actions(rotten) == []

    kept.clock.moved += UNREAD_RETRY
    kept.work()
    kept.scrub()

    assert kept.actions(rotten) == ["FOUND_CHANGED"]
    assert kept.state(rotten.digest) == BytesState.DAMAGED
    assert read_standing(kept.engine).troubles.unread_count == 0


def test_what_the_store_can_read_again_is_as_before(kept: Kept) -> None:
    evidence, _ = kept.seal(b"on a disk that is away"), kept.seal(b"another one")
    kept.cannot_read(evidence.digest)
    kept.scrub()
    kept.parts = kept.build()

    kept.clock.moved += UNREAD_RETRY
    kept.work()

    assert kept.actions(evidence) == []
    assert kept.value("SELECT count(*) FROM objects WHERE unread_count > 0 OR unread_retry_time IS NOT NULL") == 0


def test_the_only_object_of_a_store_is_found_unreadable_too(kept: Kept) -> None:
    kept.cannot_read(kept.seal(b"alone").digest)

    kept.scrub()

    assert read_standing(kept.engine).troubles.unread_count == 1


def test_what_somebody_could_not_read_is_found_out_also_where_scrubbing_is_switched_off(kept: Kept) -> None:
    """Or readers would be told to come again for ever."""
    rotten, other = kept.seal(b"rotten"), kept.seal(b"another one")
    kept.settings = kept.settings.model_copy(update={"scrub_bytes_per_second": 0})
    kept.cannot_read(rotten.digest)
    suspect(kept.engine, rotten.digest, kept.clock.now())
    for _ in range(UNREAD_MAX):
        kept.work()
        kept.clock.moved += UNREAD_RETRY

    assert (kept.actions(rotten), kept.actions(other)) == (["FOUND_CHANGED"], [])
    assert kept.value("SELECT scrub_time FROM objects WHERE digest = %s", other.digest) is None


def test_where_no_object_can_be_read_it_is_the_store(kept: Kept) -> None:
    kept.cannot_read(*[kept.seal(f"content {number}".encode()).digest for number in range(3)])
    kept.clock.moved = timedelta(days=2)

    with pytest.raises(StoreUnavailableError):
        kept.parts.scrubber.step()

    assert read_standing(kept.engine).troubles.unread_count == 0


def test_what_the_store_cannot_read_is_healed_by_its_older_version(kept: Kept) -> None:
    """Somebody has put the same bytes twice, and the newer ones have rotted."""
    evidence, _ = kept.seal(b"original"), kept.seal(b"another one")
    kept.overwrite(evidence.digest, b"original")
    kept.cannot_read(evidence.digest)
    kept.execute("UPDATE objects SET unread_count = %s WHERE digest = %s", UNREAD_MAX, evidence.digest)

    kept.scrub()

    assert kept.actions(evidence) == ["FOUND_CHANGED", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD
    # What cannot be read is removed nowhere.
    assert len(kept.objects.versions(object_key(evidence.digest))) == 3


def test_a_lost_store_keeps_nothing_else_from_being_scrubbed(kept: Kept) -> None:
    lost = [kept.seal(f"lost {number}".encode()) for number in range(DAMAGED_PAGE + 5)]
    held = kept.seal(b"held")
    kept.execute("UPDATE objects SET state = 4, damage = 11 WHERE digest <> %s", held.digest)
    for one in lost:
        kept.destroy(one.digest)
    kept.clock.moved = timedelta(days=2)

    kept.parts.scrubber.step()

    assert kept.value("SELECT scrub_time FROM objects WHERE digest = %s", held.digest) is not None
    # The last ones are looked at with the next step, and the pause counts from then.
    last = max(lost, key=lambda one: one.digest)
    kept.overwrite(last.digest, f"lost {lost.index(last)}".encode())
    kept.parts.scrubber.step()
    assert kept.value("SELECT count(*) FROM objects WHERE state = 1") == 2


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


def test_what_cannot_be_healed_now_keeps_nothing_else_from_being_scrubbed(kept: Kept) -> None:
    first, second = sorted((kept.seal(bytes([number])) for number in range(2)), key=lambda one: one.digest)
    held = kept.seal(b"held")
    for one in (first, second):
        kept.overwrite(one.digest, b"?")
    kept.execute("UPDATE objects SET state = 4, damage = 12 WHERE digest <> %s", held.digest)
    kept.clock.moved = timedelta(days=2)
    kept.parts = kept.build(with_silent_object(kept.objects, first.digest, "versions"))

    with pytest.raises(StoreUnavailableError):
        kept.parts.scrubber.step()
    kept.work()

    assert (kept.state(first.digest), kept.state(second.digest)) == (BytesState.DAMAGED, BytesState.HELD)
    assert kept.value("SELECT scrub_time FROM objects WHERE digest = %s", held.digest) is not None
