"""Draws posters and thumbnails of what is held here, after it was sealed and beside everything else.

They prove nothing and are needed by nothing but people's screens: uploads never wait for them, what fails is tried
again later, and what is lost can be drawn again. Several replicas may work; each object is drawn by one at a time.
"""

from datetime import timedelta
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.video.inspecting_process import InspectingProcesses, Previews
from services.video.media_types import JPEG, PREVIEWED_TYPES, ContentRefused, InspectionUnavailable
from services.video.object_store import ObjectMissingError, ObjectStore, StoreError, object_key, rendition_key
from services.video.store import previews as rows
from services.video.store.previews import DueRow
from services.video.stored_ranges import StoredRanges
from zhichao.video.v1 import evidence_pb2

POSTER: Final = "poster"
THUMBNAIL: Final = "thumbnail"

IDLE_SECONDS: Final = 2.0
"""How soon after the seal previews are drawn when nothing else waits; the question costs a tenth of a millisecond."""

STEP_OBJECTS_MAX: Final = 16
"""Objects between two looks whether the service stops."""

LEASE: Final = timedelta(minutes=15)
"""How long nobody else draws what one replica has begun: two processes may take minutes for the largest clip."""

RETRY_MIN: Final = timedelta(minutes=1)
"""First pause after a failure that is the object's own: it is missing, or shorter than it should be."""

RETRY_MAX: Final = timedelta(days=1)
"""Longest pause: what the scrubber or a person has put right is drawn a day later."""

AWAY_RETRY: Final = timedelta(seconds=30)
"""Pause after a failure that is not the object's own: the store is away, no process can be started."""

_log = structlog.get_logger()


class PreviewMaker:
    """Draws what is due. One thread at a time calls `step`."""

    def __init__(self, engine: Engine, objects: ObjectStore, drawing: InspectingProcesses, clock: Clock) -> None:
        self._engine = engine
        self._objects = objects
        self._drawing = drawing
        self._clock = clock

    def step(self) -> float:
        """Draw some of what is due, and return the seconds until the next step.

        Raises StoreError while the store is away, and ServiceError while the database is; nothing is lost then.
        """
        for _ in range(STEP_OBJECTS_MAX):
            now = self._clock.now()
            with translate_errors(), self._engine.begin() as pooled:
                due = rows.take_due(raw_connection(pooled), now, now + LEASE)
            if due is None:
                return IDLE_SECONDS
            try:
                self._make(due)
            except InspectionUnavailable as error:
                self._put_off(due, AWAY_RETRY, due.failures)
                _log.warning("previews_wait", cause=str(error))
                return AWAY_RETRY.total_seconds()
            except (ObjectMissingError, EOFError) as error:
                # Whoever reads the object, or scrubs it, writes that down.
                self._put_off(due, min(RETRY_MIN * 2 ** min(due.failures, 16), RETRY_MAX), due.failures + 1)
                _log.warning("preview_not_drawn", digest=due.digest.hex(), cause=type(error).__name__)
            except StoreError:
                self._put_off(due, AWAY_RETRY, due.failures)
                raise
        return 0.0

    def _make(self, due: DueRow) -> None:
        with translate_errors(), reading(self._engine) as pooled:
            manifest = rows.read_manifest(raw_connection(pooled), due.digest)
        if manifest is None:
            # Its log was not read that far, or has to be replayed.
            raise EOFError("no manifest names the bytes")
        content_type = evidence_pb2.Evidence.FromString(manifest).content_type
        previews = self._drawn(due, content_type) if content_type in PREVIEWED_TYPES else None
        if previews is None:
            with translate_errors(), self._engine.begin() as pooled:
                rows.mark_not_drawable(raw_connection(pooled), due.digest)
            return
        names = {THUMBNAIL: previews.thumbnail, POSTER: previews.poster}
        keys = {rendition_key(due.digest, name): content for name, content in names.items() if content is not None}
        for key, content in keys.items():
            self._objects.put_rendition(key, content, JPEG)
        with translate_errors(), self._engine.begin() as pooled:
            is_held = rows.mark_drawn(raw_connection(pooled), due.digest)
        if is_held:
            _log.info("previews_drawn", digest=due.digest.hex())
            return
        # The bytes were deleted meanwhile, after their retention: what shows them goes, too.
        for key in keys:
            self._objects.delete(key)

    def _drawn(self, due: DueRow, content_type: str) -> Previews | None:
        stored = StoredRanges(self._objects, object_key(due.digest), due.size_bytes)
        try:
            return self._drawing.draw_ranges(stored.read, due.size_bytes, content_type)
        except ContentRefused as refused:
            # Sealed all the same: the inspection found one frame, and another one is broken.
            _log.warning("preview_not_drawable", digest=due.digest.hex(), cause=refused.message)
            return None

    def _put_off(self, due: DueRow, pause: timedelta, failures: int) -> None:
        with translate_errors(), self._engine.begin() as pooled:
            rows.put_off(raw_connection(pooled), due.digest, self._clock.now() + pause, failures)
