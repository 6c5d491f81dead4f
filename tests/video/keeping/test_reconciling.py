"""Store and tables are compared both ways; what a kill, a restored backup or somebody left is found and mended."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from cli.platform_layout import free_port
from services.video.custody import CustodyAction
from services.video.domain import BytesState
from services.video.keeping_rules import ORPHAN_KEEP, UNREAD_MAX, UNREAD_RETRY
from services.video.object_store import ObjectStore, StoreUnavailableError, object_key, rendition_key, staging_key
from services.video.reconciling import STAGING_KEEP
from services.video.store_contents import ObjectFacts
from tests.video.keeping.harness import Kept


def put_orphan(kept: Kept, content: bytes) -> bytes:
    """Store bytes as an upload does that died before its manifest was written."""
    digest = hashlib.sha256(content).digest()
    kept.objects.put(digest, content, len(content))
    return digest


def orphans(kept: Kept) -> int:
    """Return how many orphans there are said to be."""
    return int(kept.value("SELECT count(*) FROM orphans"))


def grow_older(kept: Kept, by: timedelta) -> None:
    """Let all orphans be seen for longer, by the clock of the database, too."""
    kept.execute("UPDATE orphans SET found_time = found_time - %s", by)


def test_what_agrees_is_left_alone(kept: Kept) -> None:
    evidence = [kept.seal(f"content {number}".encode()) for number in range(5)]

    kept.reconcile()

    assert [kept.actions(one) for one in evidence] == [[]] * 5
    assert orphans(kept) == 0
    assert kept.value("SELECT reconcile_time FROM scrub_state") is not None


def test_an_upload_that_is_being_sealed_is_no_orphan(kept: Kept) -> None:
    put_orphan(kept, b"just now")

    kept.reconcile()

    assert orphans(kept) == 0


def test_an_orphan_is_counted_and_after_a_grace_time_removed(kept: Kept) -> None:
    digest = put_orphan(kept, b"left over")
    kept.objects.put_rendition(rendition_key(digest, "poster"), b"small", "image/jpeg")
    kept.clock.moved = timedelta(hours=2)
    kept.reconcile()
    assert (orphans(kept), kept.is_stored(digest)) == (1, True)

    grow_older(kept, ORPHAN_KEEP - timedelta(minutes=1))
    kept.reconcile()
    assert (orphans(kept), kept.is_stored(digest)) == (1, True)

    # The clock of the service was two hours ahead when it was found.
    grow_older(kept, timedelta(hours=2, minutes=2))
    kept.reconcile()
    assert (orphans(kept), kept.is_stored(digest)) == (0, False)
    assert [*kept.objects.list("renditions/")] == []


def test_a_clock_that_jumps_ahead_removes_no_orphan(kept: Kept) -> None:
    digest = put_orphan(kept, b"left over")
    kept.clock.moved = timedelta(hours=2)
    kept.reconcile()

    kept.clock.moved = ORPHAN_KEEP * 100
    kept.reconcile()

    assert (orphans(kept), kept.is_stored(digest)) == (1, True)


class Aged:
    """A store whose objects are said to be days older than they are."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectFacts]:
        """List as the store does, with other times."""
        for found in self._objects.list(prefix, start_after):
            yield replace(found, modified_time=found.modified_time - timedelta(days=3))


def test_an_orphan_that_a_clock_behind_has_found_does_not_look_old(kept: Kept) -> None:
    put_orphan(kept, b"left over")
    before = kept.value("SELECT clock_timestamp()")
    kept.clock.moved = -timedelta(days=2)

    kept.build(cast("ObjectStore", Aged(kept.objects))).reconciler.run(timedelta(days=1))

    assert kept.value("SELECT found_time FROM orphans") >= before


def test_an_orphan_whose_manifest_came_is_none(kept: Kept) -> None:
    put_orphan(kept, b"late manifest")
    kept.clock.moved = timedelta(hours=2)
    kept.reconcile()
    evidence = kept.seal(b"late manifest")
    grow_older(kept, ORPHAN_KEEP * 2)

    kept.reconcile()

    assert orphans(kept) == 0
    assert kept.is_stored(evidence.digest)


def test_no_orphan_is_removed_while_manifests_may_come_back_from_above(kept: Kept) -> None:
    digest = put_orphan(kept, b"its manifest is above")
    kept.clock.moved = timedelta(hours=2)
    kept.reconcile()
    kept.execute("UPDATE journal_logs SET is_recovering = true")
    grow_older(kept, ORPHAN_KEEP * 2)

    kept.reconcile()

    assert kept.is_stored(digest)


def test_a_row_without_an_object_is_found_without_reading_anything_else(kept: Kept) -> None:
    evidence = [kept.seal(f"content {number}".encode()) for number in range(3)]
    kept.destroy(evidence[1].digest)

    kept.reconcile()
    kept.reconcile()

    assert [kept.actions(one) for one in evidence] == [[], ["FOUND_MISSING"], []]
    assert kept.state(evidence[1].digest) == BytesState.DAMAGED


def test_a_whole_store_that_is_gone_is_found(kept: Kept) -> None:
    evidence = [kept.seal(f"content {number}".encode()) for number in range(3)]
    for one in evidence:
        kept.destroy(one.digest)

    kept.reconcile()

    assert [kept.actions(one) for one in evidence] == [["FOUND_MISSING"]] * 3


def test_a_deletion_behind_our_back_is_undone(kept: Kept) -> None:
    evidence = kept.seal(b"hidden")
    kept.hide(evidence.digest)

    kept.reconcile()

    assert kept.actions(evidence) == ["FOUND_MISSING", "RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD


def test_own_evidence_that_came_back_from_above_is_found_in_the_store(kept: Kept) -> None:
    """A restored database gets manifests back that are younger than the backup; their bytes never left."""
    evidence = kept.seal(b"sealed after the backup")
    kept.execute("UPDATE objects SET state = 2, stored_time = NULL")

    kept.reconcile()

    assert kept.actions(evidence) == ["RESTORED"]
    assert kept.state(evidence.digest) == BytesState.HELD


def test_own_evidence_whose_bytes_are_nowhere_is_missing(kept: Kept) -> None:
    """The machine was lost with its store, and only the database came back."""
    evidence = kept.seal(b"lost", is_stored=False)

    kept.reconcile()
    kept.reconcile()

    assert kept.actions(evidence) == ["FOUND_MISSING"]
    assert kept.state(evidence.digest) == BytesState.DAMAGED


def test_own_evidence_that_lies_there_changed_is_not_called_missing(kept: Kept) -> None:
    evidence = kept.seal(b"as sealed", is_stored=False)
    kept.overwrite(evidence.digest, b"replaced!")

    kept.reconcile()

    assert kept.actions(evidence) == ["FOUND_CHANGED"]
    assert kept.value("SELECT damage FROM objects WHERE digest = %s", evidence.digest) == CustodyAction.FOUND_CHANGED


def test_own_evidence_whose_change_was_a_fault_of_the_way_is_not_accused(kept: Kept) -> None:
    evidence = kept.seal(b"as sealed")
    kept.execute("UPDATE objects SET state = 2, stored_time = NULL")

    kept.build(cast("ObjectStore", OnceBroken(kept.objects))).reconciler._find_own()

    assert kept.actions(evidence) == ["RESTORED"]


def test_an_object_that_cannot_be_read_keeps_no_comparison_from_its_end(kept: Kept) -> None:
    rotten, other = kept.seal(b"rotten"), kept.seal(b"as sealed")
    put_orphan(kept, b"left over")
    kept.cannot_read(rotten.digest)
    kept.execute("UPDATE objects SET state = 2, stored_time = NULL")
    kept.clock.moved = timedelta(hours=2)

    kept.reconcile()

    assert (kept.actions(rotten), kept.actions(other)) == ([], ["RESTORED"])
    assert kept.value("SELECT reconcile_time FROM scrub_state") is not None
    assert orphans(kept) == 1
    # It is tried again with each comparison, and written down like any other in the end.
    for _ in range(UNREAD_MAX - 2):
        kept.clock.moved += UNREAD_RETRY
        kept.reconcile()
    assert kept.actions(rotten) == []
    kept.clock.moved += UNREAD_RETRY
    kept.reconcile()
    assert kept.actions(rotten) == ["FOUND_CHANGED"]


def test_comparisons_one_after_another_are_no_hours_in_which_an_object_was_not_read(kept: Kept) -> None:
    """A service that is started again and again compares each time."""
    rotten, _ = kept.seal(b"rotten"), kept.seal(b"as sealed")
    kept.cannot_read(rotten.digest)
    kept.execute("UPDATE objects SET state = 2, stored_time = NULL")

    for _ in range(UNREAD_MAX):
        kept.reconcile()

    assert kept.actions(rotten) == []
    assert kept.value("SELECT unread_count FROM objects WHERE digest = %s", rotten.digest) == 1


class OnceBroken(Aged):
    """A store that gives wrong bytes once, as a fault on the way would."""

    is_broken = True

    def read(self, key: str, offset: int = 0, length: int | None = None, **options: Any) -> Any:
        """Read, the first time something else."""
        if not self.is_broken:
            return self._objects.read(key, offset, length, **options)
        self.is_broken = False
        return self._objects.read(key, 1, **options)


def test_bytes_that_were_deleted_and_are_there_again_go(kept: Kept) -> None:
    """The store was restored from a copy that is older than the deletion."""
    evidence = kept.seal(b"over", days=-60)
    kept.parts.expirer.step()
    kept.overwrite(evidence.digest, b"over")

    kept.reconcile()
    kept.parts.expirer.step()

    assert not kept.is_stored(evidence.digest)
    assert kept.actions(evidence) == ["DELETED"]


def test_what_was_put_straight_to_the_store_and_forgotten_goes(kept: Kept) -> None:
    forgotten, known, begun = staging_key(), staging_key(), staging_key()
    for key in (forgotten, known):
        kept.objects.put_rendition(key, b"unchecked", "video/mp4")
    kept.objects.create_multipart(begun, "video/mp4")
    kept.execute(
        "INSERT INTO uploads (source_unit_id, evidence_id, draft, actor, staging_key, multipart_id, part_bytes,"
        " size_bytes, begin_time, expire_time) VALUES ('141025-9001', 'e', '', '', %s, 'm', 1, 9, now(), now())",
        known,
    )
    kept.clock.moved = timedelta(days=1) + STAGING_KEEP + timedelta(hours=1)

    kept.reconcile()

    assert [found.key for found in kept.objects.list("uploads/")] == [known]
    assert kept.objects.abort_stale_multiparts(kept.clock.now()) == 0


def test_parts_of_an_upload_that_somebody_goes_on_with_stay_however_old_it_is(kept: Kept) -> None:
    slow, forgotten = staging_key(), staging_key()
    slow_id, _ = [kept.objects.create_multipart(key, "video/mp4") for key in (slow, forgotten)]
    kept.execute(
        "INSERT INTO uploads (source_unit_id, evidence_id, draft, actor, staging_key, multipart_id, part_bytes,"
        " size_bytes, begin_time, expire_time) VALUES ('141025-9001', 'e', '', '', %s, %s, 1, 9, now(), now())",
        slow,
        slow_id,
    )
    kept.clock.moved = timedelta(days=1) + STAGING_KEEP + timedelta(hours=1)

    kept.reconcile()

    assert list(kept.objects.list_parts(slow, slow_id)) == []
    assert kept.objects.abort_stale_multiparts(kept.clock.now()) == 1


def test_a_store_that_goes_away_in_between_harms_nothing(kept: Kept) -> None:
    evidence = kept.seal(b"content")
    away = kept.store(endpoint=f"http://127.0.0.1:{free_port()}")

    with pytest.raises(StoreUnavailableError):
        kept.build(away).reconciler.run(timedelta(days=1))

    assert kept.actions(evidence) == []
    assert kept.value("SELECT reconcile_time FROM scrub_state") is None


def test_previews_of_bytes_that_nobody_names_go_and_others_stay(kept: Kept) -> None:
    evidence = kept.seal(b"with a preview")
    stray = rendition_key(hashlib.sha256(b"nobody's").digest(), "poster")
    for key in (stray, rendition_key(evidence.digest, "poster")):
        kept.objects.put_rendition(key, b"small", "image/jpeg")
    kept.clock.moved = ORPHAN_KEEP + timedelta(hours=1)

    kept.reconcile()

    assert [found.key for found in kept.objects.list("renditions/")] == [rendition_key(evidence.digest, "poster")]
    assert kept.objects.stat(object_key(evidence.digest)).size_bytes == len(b"with a preview")
