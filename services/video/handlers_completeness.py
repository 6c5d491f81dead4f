"""The use cases of completeness: how many suspected overloads can be proven, and what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from services.common.access.readable import readable_origin
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.forms import bad_fields, described
from services.common.instants import timestamp
from services.common.paging import decode_token, encode_token, filter_digest, key_time, page_size, time_key
from services.common.reasons import Reason
from services.common.request import request_context
from services.video import filters, forms
from services.video.config import VideoSettings
from services.video.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.video.store import completeness as store
from services.video.store.completeness import DayFilter, MissingFilter, MissingKey, MissingRow
from zhichao.video.v1 import service_pb2 as pb

_HELD = 0
_LOST = 1
"""Parts of the list of what is missing, in its order."""


class CompletenessHandlers:
    """What is complete and what is not."""

    def __init__(self, engine: Engine, own: str, settings: VideoSettings, clock: Clock) -> None:
        self._engine = engine
        self._own = own
        self._in_time = timedelta(minutes=settings.clip_in_time_minutes)
        self._keep = timedelta(days=settings.recording_days)
        self._clock = clock

    def list_completeness(self, request: pb.ListCompletenessRequest) -> pb.ListCompletenessResponse:
        """Return one page. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, INVALID_PAGE_TOKEN."""
        first_day, first_violation = _day(request.start_date)
        last_day, last_violation = _day(request.end_date)
        _refuse_bad(
            ("origin", forms.division_code(request.origin) if request.origin else ""),
            ("source_unit_id", forms.source_unit_id(request.source_unit_id) if request.source_unit_id else ""),
            ("start_date", first_violation),
            ("end_date", last_violation),
        )
        narrow = DayFilter(self._readable(request.origin), request.source_unit_id, first_day, last_day)
        size = page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListCompleteness", narrow.origin, narrow.source_unit_id, str(first_day), str(last_day))
        key = decode_token(request.page_token, digest, (int, str, str))
        after = (_day_of_key(int(key[0])), str(key[1]), str(key[2])) if key else None
        with self._reading() as connection:
            rows = store.list_completeness(connection, narrow, self._in_time, after, size + 1)
        shown = rows[:size]
        token = ""
        if len(rows) > size:
            last = shown[-1]
            token = encode_token(digest, (last.day.toordinal(), last.origin, last.source_unit_id))
        return pb.ListCompletenessResponse(
            completeness=[
                pb.Completeness(
                    origin=row.origin,
                    source_unit_id=row.source_unit_id,
                    date=row.day.isoformat(),
                    suspected_count=row.suspected_count,
                    with_clip_count=row.with_clip_count,
                    with_clip_in_time_count=row.with_clip_in_time_count,
                    with_photo_count=row.with_photo_count,
                )
                for row in shown
            ],
            next_page_token=token,
            in_time_minutes=self._in_time // timedelta(minutes=1),
        )

    def list_missing_evidence(self, request: pb.ListMissingEvidenceRequest) -> pb.ListMissingEvidenceResponse:
        """Return one page: what a site may still hold, by the end of its recording; then what is lost, if that is asked
        for.

        All pages go by the time of the first one. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE,
        INVALID_PAGE_TOKEN.
        """
        start_time, start_violation = filters.optional_time(request, "start_time")
        _refuse_bad(
            ("origin", forms.division_code(request.origin) if request.origin else ""),
            ("source_unit_id", forms.source_unit_id(request.source_unit_id) if request.source_unit_id else ""),
            ("start_time", start_violation),
        )
        origin = self._readable(request.origin)
        size = page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest(
            "ListMissingEvidence", origin, request.source_unit_id, str(start_time), request.includes_lost
        )
        # The moment that all pages go by, the part of the list, and the key of the last row.
        key = decode_token(request.page_token, digest, (int, int, int, str, int))
        as_of = key_time(key[0]) if key else self._clock.now()
        part = _LOST if key and key[1] == _LOST and request.includes_lost else _HELD
        after = (key_time(key[2]), str(key[3]), int(key[4])) if key else None
        narrow = MissingFilter(as_of, self._keep, origin, request.source_unit_id, start_time)
        with self._reading() as connection:
            parts = [(row, part) for row in self._missing(connection, narrow, part, after, size + 1)]
            if part == _HELD and request.includes_lost and len(parts) <= size:
                lost = store.list_missing_lost(connection, narrow, None, size + 1 - len(parts))
                parts += [(row, _LOST) for row in lost]
        shown = parts[:size]
        token = ""
        if len(parts) > size:
            last, part = shown[-1]
            ends_at = last.weigh_time if part == _LOST else last.until_time
            token = encode_token(digest, (time_key(as_of), part, time_key(ends_at), last.origin, last.sequence))
        return pb.ListMissingEvidenceResponse(
            missing=[_missing_message(row, part) for row, part in shown], next_page_token=token
        )

    # Parts of the above

    @staticmethod
    def _missing(
        connection: RawConnection, narrow: MissingFilter, part: int, after: MissingKey | None, count: int
    ) -> list[MissingRow]:
        read = store.list_missing_lost if part == _LOST else store.list_missing_held
        return read(connection, narrow, after, count)

    @contextmanager
    def _reading(self) -> Iterator[RawConnection]:
        with translate_errors(), reading(self._engine) as pooled:
            yield raw_connection(pooled)

    def _readable(self, origin: str) -> str:
        return readable_origin(request_context().principal, self._own, origin, "origin")


def _missing_message(row: MissingRow, part: int) -> pb.MissingEvidence:
    return pb.MissingEvidence(
        origin=row.origin,
        source_unit_id=row.source_unit_id,
        record_id=row.record_id,
        weigh_time=timestamp(row.weigh_time),
        lacks_clip=row.lacks_clip,
        lacks_photo=row.lacks_photo,
        has_clip_of_other_time=row.has_clip_of_other_time,
        has_photo_of_other_time=row.has_photo_of_other_time,
        recording_until_time=timestamp(row.until_time) if part == _HELD else None,
    )


def _refuse_bad(*checked: tuple[str, str]) -> None:
    if violations := described(checked):
        raise bad_fields(violations)


def _day(text: str) -> tuple[date | None, str]:
    if not text:
        return None, ""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # fromisoformat takes other forms of ISO 8601, too.
    if day is None or day.isoformat() != text:
        return None, f"is {forms.shown(text)}, but must be a day like 2026-07-01"
    return day, ""


def _day_of_key(ordinal: int) -> date:
    try:
        return date.fromordinal(ordinal)
    except (ValueError, OverflowError) as error:
        raise ServiceError(Reason.INVALID_PAGE_TOKEN, "the page token names no day") from error
