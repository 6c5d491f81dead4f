"""Bounds what one principal sends, and delays whoever tries wrong credentials again and again."""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.access.principal import CallLimits, Principal

FAILURES_FREE: Final = 10
"""Failed attempts within the window before the next are delayed: a terminal with an old token, restarted by hand a few
times, is not meant."""

FAILURE_WINDOW_SECONDS: Final = 60.0
"""The count begins again so long after the first failure; for a source that was delayed, after so long without one."""

DELAY_SECONDS_MIN: Final = 1.0
DELAY_SECONDS_MAX: Final = 60.0
"""A secret has 256 bits: the delay keeps logs and processors free, it does not have to keep anybody from guessing."""

SOURCES_MAX: Final = 10_000
"""Sources of failed attempts remembered: a province's terminals, some 1 MB. The longest quiet is forgotten first."""

IPV6_NETWORK_BITS: Final = 64
"""Bits of an IPv6 address that are its network's; a host chooses the rest itself."""

BUCKETS_MAX: Final = 20_000
"""Principals whose sending is counted at once: ten times what a large city has. Longest quiet first, as above."""

BYTES_BURST_SECONDS: Final = 4.0
"""Bytes may come at once for so many seconds' worth: four messages of the largest size at a terminal's rate."""

_log = structlog.get_logger()


class _Bucket:
    """What one principal has left, calls and bytes; either may be overdrawn by what was taken already."""

    __slots__ = ("bytes_left", "calls_left", "seen_at")

    def __init__(self, limits: CallLimits, now: float) -> None:
        self.calls_left = float(limits.burst_calls)
        self.bytes_left = (limits.bytes_per_second or 0.0) * BYTES_BURST_SECONDS
        self.seen_at = now

    def fill(self, limits: CallLimits, now: float) -> None:
        elapsed = now - self.seen_at
        self.seen_at = now
        if limits.calls_per_second is not None:
            self.calls_left = min(self.calls_left + elapsed * limits.calls_per_second, float(limits.burst_calls))
        if limits.bytes_per_second is not None:
            most = limits.bytes_per_second * BYTES_BURST_SECONDS
            self.bytes_left = min(self.bytes_left + elapsed * limits.bytes_per_second, most)


class RateLimiter:
    """Token buckets by principal. A message is taken when nothing is owed; it may then leave a debt of its own size."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def seconds_owed(self, principal: Principal) -> float:
        """Return how long the principal has to wait before its next message; 0 when it may send."""
        limits = principal.limits
        if limits.calls_per_second is None and limits.bytes_per_second is None:
            return 0.0
        bucket = self._buckets.get(principal.name)
        if bucket is None or (bucket.calls_left >= 1 and bucket.bytes_left >= 0):
            # Without the lock: what it had left when it was looked at last it has all the more now.
            return 0.0
        with self._guard:
            return _owed(self._bucket(principal), limits)

    def take(self, principal: Principal, byte_count: int) -> float:
        """Count one message. Return how long it has to wait, and then it is not counted; 0 when it was counted."""
        limits = principal.limits
        if limits.calls_per_second is None and limits.bytes_per_second is None:
            return 0.0
        with self._guard:
            bucket = self._bucket(principal)
            owed = _owed(bucket, limits)
            if owed:
                return owed
            bucket.calls_left -= 1
            bucket.bytes_left -= byte_count
            return 0.0

    def _bucket(self, principal: Principal) -> _Bucket:
        now = self._monotonic()
        bucket = self._buckets.get(principal.name)
        if bucket is None:
            bucket = self._buckets[principal.name] = _Bucket(principal.limits, now)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(principal.name)
            bucket.fill(principal.limits, now)
        return bucket


def _owed(bucket: _Bucket, limits: CallLimits) -> float:
    owed = 0.0
    if limits.calls_per_second is not None and bucket.calls_left < 1:
        owed = (1 - bucket.calls_left) / limits.calls_per_second
    if limits.bytes_per_second is not None and bucket.bytes_left < 0:
        owed = max(owed, -bucket.bytes_left / limits.bytes_per_second)
    return owed


@dataclass(slots=True)
class _Failures:
    """What has failed from one source: how often since when, and what is not looked at meanwhile."""

    began_at: float
    count: int = 0
    last_at: float = 0.0
    delayed_until: float = 0.0
    delay_seconds: float = 0.0
    unseen_count: int = 0

    def is_over(self, now: float) -> bool:
        """Tell whether it has been quiet for so long that the count begins again."""
        if self.delay_seconds:
            return now > max(self.last_at, self.delayed_until) + FAILURE_WINDOW_SECONDS
        return now > self.began_at + FAILURE_WINDOW_SECONDS


class FailedAttempts:
    """Counts failed attempts by where they come from: the peer's address and the credential they name.

    After ten within a minute further ones are not looked at for a while that doubles from a second to a minute.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._sources: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self.count = 0

    @property
    def has_sources(self) -> bool:
        """Whether anybody has failed lately. If nobody has, nothing has to be looked up for the many who are right."""
        return bool(self._sources)

    def seconds_delayed(self, peer: str, credential_id: str) -> float:
        """Return how long attempts from there are not looked at; 0 when they are. Counts the attempt if it is not."""
        with self._guard:
            failures = self._sources.get((source_of(peer), credential_id))
            if failures is None:
                return 0.0
            remaining = failures.delayed_until - self._monotonic()
            if remaining <= 0:
                return 0.0
            failures.unseen_count += 1
            self.count += 1
            return remaining

    def failed(self, peer: str, credential_id: str, reason: str) -> None:
        """Count an attempt that was looked at and failed; one log line, which names no secret."""
        now = self._monotonic()
        key = (source_of(peer), credential_id)
        with self._guard:
            self.count += 1
            failures = self._sources.pop(key, None)
            if failures is None or failures.is_over(now):
                failures = _Failures(now)
            self._sources[key] = failures
            if len(self._sources) > SOURCES_MAX:
                self._sources.popitem(last=False)
            failures.count += 1
            failures.last_at = now
            if failures.count >= FAILURES_FREE:
                failures.delay_seconds = min(max(failures.delay_seconds * 2, DELAY_SECONDS_MIN), DELAY_SECONDS_MAX)
                failures.delayed_until = now + failures.delay_seconds
            count, delay = failures.count, failures.delay_seconds
        _log.warning(
            "authentication_failed",
            peer_address=key[0],
            credential_id=credential_id,
            reason=reason,
            failure_count=count,
            delay_seconds=delay,
        )

    def sweep(self) -> None:
        """Tell of attempts that were not looked at, once their delay is over, and forget sources that are quiet."""
        if not self._sources:
            return
        now = self._monotonic()
        told: list[tuple[tuple[str, str], int, float]] = []
        with self._guard:
            for key, failures in tuple(self._sources.items()):
                if failures.unseen_count and now >= failures.delayed_until:
                    told.append((key, failures.unseen_count, failures.delay_seconds))
                    failures.unseen_count = 0
                if failures.is_over(now):
                    del self._sources[key]
        for (source, credential_id), count, delay in told:
            _log.warning(
                "authentication_attempts_delayed",
                peer_address=source,
                credential_id=credential_id,
                count=count,
                delay_seconds=delay,
            )


def source_of(peer: str) -> str:
    """Return where attempts of a peer are counted: its address without the port, `ipv4:192.0.2.1` or `unix`.

    Of an IPv6 address the network: whoever has one address has the 2^64 of its network (RFC 6177).
    """
    if peer.startswith("unix"):
        return "unix"
    address, _, _ = peer.rpartition(":")
    kind, _, text = address.partition(":")
    if kind != "ipv6":
        return address
    try:
        # A link-local address names its interface behind a percent sign.
        whole = ipaddress.IPv6Address(text.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if whole.ipv4_mapped is not None:
        return f"ipv4:{whole.ipv4_mapped}"
    return f"ipv6:{ipaddress.IPv6Network((int(whole), IPV6_NETWORK_BITS), strict=False)}"
