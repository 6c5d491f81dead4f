"""Attempts that a server has refused, summed up so that nobody can fill an audit log with them: what is counted, and
when it is told. Somebody else keeps it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason

AUDITED_REASONS: Final = frozenset(
    {
        Reason.NO_CREDENTIALS,
        Reason.INVALID_CREDENTIALS,
        Reason.CREDENTIAL_EXPIRED,
        Reason.CREDENTIAL_REVOKED,
        Reason.AUTHENTICATION_DELAYED,
        Reason.PERMISSION_MISSING,
        Reason.OUTSIDE_SCOPE,
        Reason.OWN_CREDENTIAL,
        Reason.PLATFORM_NOT_REGISTERED,
        Reason.ORIGIN_NOT_ALLOWED,
    }
)
"""Refusals because of who calls: failed log-ins and what somebody may not do (GB/T 22239-2019, 8.1.4.3 a)."""

TELL_SECONDS: Final = 60.0
"""Attempts wait so long at most for their first record, unless more sources than TOLD_MAX wait with them."""

INTERVAL_SECONDS_MAX: Final = 3600.0
"""Attempts that go on are told after one minute, then two, four … and then once an hour: a terminal with an old token
makes some thirty records on its first day."""

TOLD_MAX: Final = 20
"""Records made in a minute at most, besides one for each reason that sums up those who are not told apart: under a
steady attack from changing addresses 40,000 a day, some 20 MB. The others wait for their turn, or are summed up at a
stop."""

SOURCES_MAX: Final = 2_000
"""Sources told apart at once, as many as a large city has terminals; attempts of others are summed up by reason."""

_log = structlog.get_logger()


class RefusalSource(NamedTuple):
    """Whose attempts are summed up. All but the reason is empty where many sources are."""

    principal: str
    peer_address: str
    reason: Reason
    # What somebody recognised has called, or what somebody else has shown in vain: the credential or certificate.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RefusedAttempts:
    """Attempts of one source."""

    principal: str
    peer_address: str
    reason: Reason
    # Of the first attempt.
    method: str
    # The credential or certificate that was shown in vain, as far as it is known.
    claimed: str
    count: int
    first_time: datetime
    last_time: datetime


@dataclass(slots=True)
class _Tally:
    due_at: float
    method: str
    claimed: str
    first_time: datetime
    last_time: datetime
    interval_seconds: float = TELL_SECONDS
    count: int = 0


Write = Callable[[Sequence[RefusedAttempts]], None]
"""Keeps what is told. Raises ServiceError if it cannot: then it is told again later, with what came meanwhile."""


class RefusalBook:
    """Counts refused attempts and tells them from a thread of its own, between `start` and `stop`. Thread-safe."""

    def __init__(self, write: Write, clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._guard = threading.Lock()
        self._tallies: dict[RefusalSource, _Tally] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refused-attempts", daemon=True)

    def start(self) -> None:
        """Start telling."""
        self._thread.start()

    def stop(self) -> None:
        """Tell what is left, once, and stop; without effect when it was never started."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()
            self.tell(is_last=True)

    def note(self, source: RefusalSource, method: str, claimed: str) -> None:
        """Count one attempt. Cheap: whoever refuses does not wait for it to be kept."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        with self._guard:
            tally = self._tallies.get(source)
            if tally is None:
                if len(self._tallies) >= SOURCES_MAX:
                    source, method, claimed = RefusalSource("", "", source.reason), "", ""
                    tally = self._tallies.get(source)
                if tally is None:
                    # Not a minute after the first: whoever tries once in a while is told as he comes.
                    tally = self._tallies[source] = _Tally(monotonic, method, claimed, now, now)
            if not tally.count:
                tally.first_time, tally.method, tally.claimed = now, method, claimed
            tally.count += 1
            tally.last_time = now

    def tell(self, *, is_last: bool = False) -> None:
        """Tell what is due, at most TOLD_MAX sources, and forget those that are quiet. Called once a minute.

        The last time it is all that is left: what is more than that is summed up by reason.
        """
        monotonic = self._clock.monotonic()
        with self._guard:
            self._forget(monotonic)
            if is_last:
                self._sum_up_rest()
            due = [
                (source, tally)
                for source, tally in self._tallies.items()
                if tally.count and (is_last or monotonic >= tally.due_at)
            ]
            summed_up = [one for one in due if not one[0].peer_address]
            due = [one for one in due if one[0].peer_address][:TOLD_MAX] + summed_up
            told = [
                RefusedAttempts(
                    source.principal,
                    source.peer_address,
                    source.reason,
                    tally.method,
                    tally.claimed,
                    tally.count,
                    tally.first_time,
                    tally.last_time,
                )
                for source, tally in due
            ]
        if not told:
            return
        try:
            self._write(told)
        except ServiceError as error:
            _log.warning("refused_attempts_not_told", sources=len(told), reason=error.reason.value)
            return
        with self._guard:
            for (_, tally), one in zip(due, told, strict=True):
                tally.count -= one.count
                tally.first_time = tally.last_time
                tally.due_at = monotonic + tally.interval_seconds
                tally.interval_seconds = min(tally.interval_seconds * 2, INTERVAL_SECONDS_MAX)

    def _sum_up_rest(self) -> None:
        """Put together by reason whoever would have to wait for a turn: there is none after a stop."""
        named = [source for source, tally in self._tallies.items() if tally.count and source.peer_address]
        for source in named[TOLD_MAX:]:
            tally = self._tallies.pop(source)
            whole = self._tallies.setdefault(
                RefusalSource("", "", source.reason),
                _Tally(tally.due_at, "", "", tally.first_time, tally.last_time),
            )
            whole.first_time = min(whole.first_time, tally.first_time) if whole.count else tally.first_time
            whole.last_time = max(whole.last_time, tally.last_time)
            whole.count += tally.count

    def _forget(self, monotonic: float) -> None:
        quiet = [
            source
            for source, tally in self._tallies.items()
            if not tally.count and monotonic >= tally.due_at + tally.interval_seconds
        ]
        for source in quiet:
            del self._tallies[source]

    def _run(self) -> None:
        while not self._is_over.wait(TELL_SECONDS):
            try:
                self.tell()
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The thread outlives any fault: without it no refused attempt would be kept until the next start.
                _log.exception("refused_attempts_failed")
