"""The use cases of cameras: what sites say about their recording, and what was said last."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.common.access.control import AccessControl
from services.common.access.readable import readable_origin
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.forms import bad_fields, described
from services.common.instants import moment, timestamp
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.request import request_context
from services.journal.entry_writer import EntryWriter
from services.video import forms, kinds
from services.video import refusals_reading as refusals
from services.video.domain import CameraView
from services.video.forms import Violation
from services.video.limits import CAPTURE_TIME_MIN_YEAR, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.video.recordings import STATE_AHEAD_SECONDS_MAX, CameraState, RecordingState, is_news
from services.video.source_units import SourceUnits
from services.video.store import cameras as store
from services.video.store.cameras import CameraFilter
from zhichao.video.v1 import camera_pb2
from zhichao.video.v1 import service_pb2 as pb

REPORTS_MAX: Final = 200
"""Reports in one call (the contract): a source unit has six cameras, an integrator some hundred units."""

STATES_MAX: Final = 16
"""States in one filter: there are fewer than that."""


class Reported(NamedTuple):
    """One report of a call: the message as it is written, and what decides whether it is."""

    key: tuple[str, str]
    """Source unit and camera."""
    message: camera_pb2.CameraReport
    state: CameraState


class CameraHandlers:
    """What is known of cameras."""

    def __init__(
        self,
        engine: Engine,
        own: str,
        entries: EntryWriter,
        units: SourceUnits,
        access: AccessControl,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._own = own
        self._entries = entries
        self._units = units
        self._access = access
        self._clock = clock

    def report_cameras(self, request: pb.ReportCamerasRequest) -> pb.ReportCamerasResponse:
        """Take reports, all or none, and tell of each whether it was news.

        Raises ServiceError INVALID_ARGUMENT with every bad field, OUTSIDE_SCOPE, UNKNOWN_SOURCE_UNIT,
        SERVICE_UNAVAILABLE, RECOVERING.
        """
        now = self._clock.now()
        _check(request.reports, now)
        self._check_bounds([report.source_unit_id for report in request.reports])
        reported = [_reported(report, now) for report in request.reports]
        # Most reports say what is known: they take no lock and write nothing.
        with translate_errors(), reading(self._engine) as pooled:
            found = self._news(raw_connection(pooled), reported)
        if any(found):
            with self._entries.writing() as connection:
                # Somebody else may have said it meanwhile.
                found = self._news(connection, reported)
                for one, is_new in zip(reported, found, strict=True):
                    if is_new:
                        self._entries.write(connection, kinds.CAMERA_KIND, one.message.SerializeToString(), now)
        return pb.ReportCamerasResponse(is_news=found)

    def list_cameras(self, request: pb.ListCamerasRequest) -> pb.ListCamerasResponse:
        """Return one page. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, INVALID_PAGE_TOKEN."""
        checked = (
            ("origin", forms.division_code(request.origin) if request.origin else ""),
            ("source_unit_id", forms.source_unit_id(request.source_unit_id) if request.source_unit_id else ""),
            ("states", _states(request.states)),
        )
        if violations := described(checked):
            raise bad_fields(violations)
        origin = readable_origin(request_context().principal, self._own, request.origin, "origin")
        states = tuple(sorted({int(state) for state in request.states}))
        size = page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListCameras", origin, request.source_unit_id, str(states))
        key = decode_token(request.page_token, digest, (str, str, str))
        after = (str(key[0]), str(key[1]), str(key[2])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            rows = store.list_cameras(
                raw_connection(pooled), CameraFilter(origin, request.source_unit_id, states), after, size + 1
            )
        shown = rows[:size]
        token = ""
        if len(rows) > size:
            last = shown[-1]
            token = encode_token(digest, (last.source_unit_id, last.camera_id, last.origin))
        return pb.ListCamerasResponse(
            held_cameras=[
                pb.HeldCamera(origin=row.origin, report=camera_pb2.CameraReport.FromString(row.content))
                for row in shown
            ],
            next_page_token=token,
        )

    # Parts of the above

    def _news(self, connection: RawConnection, reported: Sequence[Reported]) -> list[bool]:
        """Tell which reports are news, each after the ones before it."""
        held: dict[tuple[str, str], CameraState] = {
            key: _state(camera_pb2.CameraReport.FromString(content))
            for key, content in store.read_reports(connection, self._own, sorted({one.key for one in reported})).items()
        }
        found = []
        for one in reported:
            is_new = is_news(held.get(one.key), one.state)
            if is_new:
                held[one.key] = one.state
            found.append(is_new)
        return found

    def _check_bounds(self, source_unit_ids: Sequence[str]) -> None:
        """Refuse units that the caller does not act for, or that nobody knows."""
        principal = request_context().principal
        # The first place of each.
        places: Mapping[str, int] = {unit: place for place, unit in reversed(list(enumerate(source_unit_ids)))}
        for unit, place in places.items():
            if not principal.covers_unit(unit):
                raise refusals.outside_scope(f"reports[{place}].source_unit_id", f"{unit!r} is not one of yours")
        is_bound = self._access.is_bound_to_division(principal)
        for unit, place in places.items():
            division_code = self._units.division_of(unit)
            if is_bound and not self._access.knowledge.divisions.is_within(division_code, principal.division_code):
                raise refusals.outside_scope(
                    f"reports[{place}].source_unit_id",
                    f"{unit!r} lies in division {division_code}, not within {principal.division_code}",
                )


def _check(reports: Sequence[camera_pb2.CameraReport], now: datetime) -> None:
    if not 1 <= len(reports) <= REPORTS_MAX:
        raise bad_fields([Violation("reports", f"has {len(reports)} values, but takes 1 to {REPORTS_MAX}")])
    violations = described(
        (f"reports[{place}].{field}", description)
        for place, report in enumerate(reports)
        for field, description in _violations(report, now)
    )
    if violations:
        raise bad_fields(violations)


def _violations(report: camera_pb2.CameraReport, now: datetime) -> Iterator[tuple[str, str]]:
    yield "source_unit_id", forms.source_unit_id(report.source_unit_id)
    yield "camera_id", forms.camera_id(report.camera_id, is_required=True)
    yield "view", "" if report.view == 0 else _one_of(report.view, CameraView)
    yield "state", _one_of(report.state, RecordingState)
    yield "state_time", _time(report, "state_time", now) if report.HasField("state_time") else "is missing"
    if report.HasField("oldest_recording_time"):
        yield "oldest_recording_time", _time(report, "oldest_recording_time", now)


def _time(report: camera_pb2.CameraReport, field: str, now: datetime) -> str:
    try:
        instant = moment(getattr(report, field))
    except ValueError as error:
        return str(error)
    if instant.year < CAPTURE_TIME_MIN_YEAR:
        return f"is {instant.isoformat(timespec='seconds')}, before the year {CAPTURE_TIME_MIN_YEAR}: set the clock"
    if instant > now + timedelta(seconds=STATE_AHEAD_SECONDS_MAX):
        return (
            f"is {instant.isoformat(timespec='seconds')}, more than {STATE_AHEAD_SECONDS_MAX} s ahead of "
            f"{now.isoformat(timespec='seconds')}: set the clock"
        )
    return ""


def _one_of(value: int, numbers: type[CameraView] | type[RecordingState]) -> str:
    if value in set(numbers):
        return ""
    return f"is {value}, but must be one of {', '.join(f'{one.value} ({one.name})' for one in numbers)}"


def _states(states: Sequence[int]) -> str:
    if len(states) > STATES_MAX:
        return f"has {len(states)} values, but takes at most {STATES_MAX}"
    return next((description for state in states if (description := _one_of(state, RecordingState))), "")


def _reported(report: camera_pb2.CameraReport, now: datetime) -> Reported:
    """Return a report as it is written: what the site said, with fields of a newer release, and who said it when."""
    message = camera_pb2.CameraReport()
    message.CopyFrom(report)
    message.receive_time.CopyFrom(timestamp(now))
    message.actor = request_context().principal.name
    return Reported((message.source_unit_id, message.camera_id), message, _state(message))


def _state(report: camera_pb2.CameraReport) -> CameraState:
    oldest = moment(report.oldest_recording_time) if report.HasField("oldest_recording_time") else None
    return CameraState(report.view, report.state, moment(report.state_time), oldest, moment(report.receive_time))
