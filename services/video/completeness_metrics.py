"""The figures of completeness, of cameras, and of following the weighing service. Read when somebody scrapes."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.metrics import OTHER, Gauge, Metrics, Sample
from services.journal.metrics import ORIGINS_MAX, READ_SECONDS_MAX, refuse_without_connection
from services.video.recordings import RecordingState
from services.video.store import cameras as camera_store
from services.video.store import completeness as store
from services.video.store.completeness import PlatformCompleteness, PlatformMissing
from services.video.weighing_follower import WeighingFollower

PERIOD: Final = timedelta(days=1)
"""Over which completeness is shown: a night without clips is seen, and one late clip is not."""

ENDING_SOON: Final = timedelta(days=3)
"""Recordings that end so soon need somebody now: a weekend lies in between."""

KEPT_SECONDS: Final = 60.0
"""How long the figures are kept: they are sums over some hundred thousand rows, and change little in a minute."""

_ORIGIN: Final = ("origin",)
_SUSPECTED: Final = Gauge(
    "zhichao_evidence_suspected_weighings",
    "Suspected overloads of a day for which a clip should be sealed by now.",
    _ORIGIN,
)
_RATIO: Final = Gauge(
    "zhichao_evidence_completeness_ratio",
    "Share of these with a sealed clip, with one sealed in time, with a sealed photo.",
    ("origin", "kind"),
)
_LACKING: Final = Gauge(
    "zhichao_evidence_lacking_weighings",
    "Suspected overloads that lack a clip or photo while the site may still hold the recording.",
    _ORIGIN,
)
_ENDING: Final = Gauge(
    "zhichao_evidence_lacking_ending_weighings", "Of these, whose recording ends within three days.", _ORIGIN
)
_CAMERAS: Final = Gauge("zhichao_evidence_cameras", "Cameras by what was last reported of them.", ("origin", "state"))
_FOLLOWING: Final = Gauge("zhichao_evidence_weighings_following", "1 while the weighing service is followed.")
_BEHIND: Final = Gauge(
    "zhichao_evidence_weighings_behind_entries", "Entries of weighing logs that were not looked at yet."
)

Read = Callable[[], Mapping[str, Iterable[Sample]]]
Row = TypeVar("Row", PlatformCompleteness, PlatformMissing)


class CompletenessMetrics:
    """The figures of what is complete, and of what tells it."""

    def __init__(
        self, engine: Engine, own: str, in_time: timedelta, keep: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._own = own
        self._in_time = in_time
        self._keep = keep
        self._now = now

    def add_to(self, metrics: Metrics, follower: WeighingFollower) -> None:
        """Show them."""
        # Apart from each other: one that takes too long on a busy database does not cost the others.
        metrics.gauges("completeness", [_SUSPECTED, _RATIO], _Kept(self._read_completeness).read)
        metrics.gauges("lacking", [_LACKING, _ENDING], _Kept(self._read_lacking).read)
        metrics.gauges("cameras", [_CAMERAS], _Kept(self._read_cameras).read)
        metrics.gauges(
            "weighings",
            [_FOLLOWING, _BEHIND],
            lambda: {
                _FOLLOWING.name: [Sample((), float(follower.is_following))],
                _BEHIND.name: [Sample((), float(follower.behind_entries))],
            },
        )

    def _read_completeness(self) -> Mapping[str, Iterable[Sample]]:
        # Those whose time is not over yet are left out: every clip is on its way for some minutes.
        until = self._now() - self._in_time
        with self._looking() as connection:
            rows = store.sum_completeness(connection, until - PERIOD, until, self._in_time)
        suspected, ratios = [], []
        for row in self._bounded(rows):
            suspected.append(Sample((row.origin,), float(row.suspected_count)))
            ratios += [
                Sample((row.origin, kind), count / row.suspected_count)
                for kind, count in (
                    ("clip", row.with_clip_count),
                    ("clip_in_time", row.with_clip_in_time_count),
                    ("photo", row.with_photo_count),
                )
            ]
        return {_SUSPECTED.name: suspected, _RATIO.name: ratios}

    def _read_lacking(self) -> Mapping[str, Iterable[Sample]]:
        with self._looking() as connection:
            rows = store.count_missing(connection, self._now(), self._keep, self._in_time, ENDING_SOON)
        shown = self._bounded(rows)
        return {
            _LACKING.name: [Sample((row.origin,), float(row.missing_count)) for row in shown],
            _ENDING.name: [Sample((row.origin,), float(row.ending_count)) for row in shown],
        }

    def _read_cameras(self) -> Mapping[str, Iterable[Sample]]:
        with self._looking() as connection:
            counts = camera_store.count_states(connection)
        origins = self._shown({origin for origin, _, _ in counts})
        totals: dict[tuple[str, str], int] = {}
        for origin, state, count in counts:
            labels = (origin if origin in origins else OTHER, _state_name(state))
            totals[labels] = totals.get(labels, 0) + count
        return {_CAMERAS.name: [Sample(labels, float(count)) for labels, count in totals.items()]}

    @contextmanager
    def _looking(self) -> Iterator[RawConnection]:
        refuse_without_connection(self._engine)
        with translate_errors(), reading(self._engine, timeout_seconds=READ_SECONDS_MAX) as pooled:
            yield raw_connection(pooled)

    def _shown(self, origins: Iterable[str]) -> set[str]:
        """Return the platforms that are told apart; the own one is among them whatever the bound is."""
        return set(sorted(origins, key=lambda origin: (origin != self._own, origin))[:ORIGINS_MAX])

    def _bounded(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of platforms that are told apart, and one for all others."""
        origins = self._shown(row.origin for row in rows)
        shown = [row for row in rows if row.origin in origins]
        others = [row for row in rows if row.origin not in origins]
        if others:
            counts: list[tuple[int, ...]] = [row[1:] for row in others]
            shown.append(type(others[0])(OTHER, *map(sum, zip(*counts, strict=True))))
        return shown


class _Kept:
    """Figures that are read once a minute, however often they are asked for."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._guard = threading.Lock()
        self._kept: Mapping[str, Iterable[Sample]] = {}
        self._read_at: float | None = None

    def read(self) -> Mapping[str, Iterable[Sample]]:
        """Return the figures. Raises what reading raises; the next one tries again."""
        with self._guard:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at >= KEPT_SECONDS:
                self._kept = self._read()
                self._read_at = now
            return self._kept


def _state_name(state: int) -> str:
    return RecordingState(state).name.lower() if state in set(RecordingState) else OTHER
