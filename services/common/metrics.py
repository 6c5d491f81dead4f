"""The figures of one service for Prometheus: counters that calls raise, and gauges that are read when somebody scrapes.
Names and meanings are a contract, `docs/operate/metrics.md`. Serving them is `services.common.metrics_server`.
"""

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.access.divisions import code_above

__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "RequestMetrics", "Sample"]

log = structlog.get_logger()

REQUEST_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""A record takes about a millisecond, a batch of 1,000 some tens of them (docs/benchmarks.md), and the database gives
up after tens of seconds."""

READ_KEPT_SECONDS: Final = 2.0
"""How long the figures of a scrape are kept: several Prometheus servers, or a person with a browser, cost one look."""

METHODS_MAX: Final = 256
"""Methods told apart: all services of this suite have fewer than a hundred. What strangers make up is `other`."""

OTHER: Final = "other"
"""Label of what is beyond a bound."""

_UNKNOWN_VERSION: Final = "unknown"

# When a counter was begun is told by process_start_time_seconds; beside each counter it would double the series.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the client declares no types here


class Sample(NamedTuple):
    """One value of a gauge, with the values of its labels in the gauge's order."""

    labels: tuple[str, ...]
    value: float


class Gauge(NamedTuple):
    """What a gauge is called and means, and the names of its labels. One whose name ends in `_total` is a counter that
    somebody else keeps.
    """

    name: str
    documentation: str
    labels: tuple[str, ...] = ()


Read = Callable[[], Mapping[str, Iterable[Sample]]]
"""Reads gauges: samples by the gauge's name. A gauge that is not named has no value now."""


class Metrics:
    """The figures of one service. Its registry is its own, so that services in one process stay apart.

    Counting never fails and never waits for anything but a lock of this process.
    """

    def __init__(self, component: str, platform: str) -> None:
        self.component = component
        self.platform = platform
        self.registry = CollectorRegistry()
        # Every name that this service shows of its own, with its labels.
        self.offered: dict[str, tuple[str, ...]] = {}
        self._groups: dict[str, _Group] = {}
        ProcessCollector(registry=self.registry)
        self._collection_failures = self.counter(
            "zhichao_collection_failures_total",
            "Scrapes in which a group of figures could not be read and is missing.",
            ("component", "group"),
        )
        self.requests = RequestMetrics(self)
        build = Gauge(
            "zhichao_build_info",
            "Always 1; which release of which service runs for which platform.",
            ("component", "platform", "level", "version"),
        )
        told = Sample((component, platform, level_of(platform), software_version()), 1.0)
        self.gauges("build", [build], lambda: {build.name: [told]})

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter of this service; its name ends in `_total`. Raises ValueError for a name that is taken."""
        self.offered[name] = tuple(labels)
        return Counter(name, documentation, labels, registry=self.registry)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """Make a histogram of this service. Raises ValueError for a name that is taken."""
        self.offered[name] = tuple(labels)
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)

    def gauges(self, group: str, gauges: Sequence[Gauge], read: Read) -> None:
        """Add gauges that belong together: `read` gives their values at a scrape, from any thread.

        When `read` raises, the group is missing from that scrape, counted and logged; everything else is there. Called
        again for a group, as by a second server of the service, it adds samples with other labels.
        """
        known = self._groups.get(group)
        if known is not None:
            known.add(gauges, read)
            return
        made = _Group(self, group, gauges, read)
        self.registry.register(made)
        self._groups[group] = made
        self.offered |= {gauge.name: gauge.labels for gauge in gauges}

    def collection_failed(self, group: str, error: Exception) -> None:
        """Note that a group of gauges could not be read."""
        self._collection_failures.labels(self.component, group).inc()
        # Debug, because a database that is away is told by every call already, and a scrape comes every few seconds.
        log.debug("metrics_not_read", component=self.component, group=group, error=type(error).__name__)


class RequestMetrics:
    """The calls of one server: how many ended how, and how long unary ones took."""

    def __init__(self, metrics: Metrics) -> None:
        self.component = metrics.component
        self._ended = metrics.counter(
            "zhichao_requests_total",
            "Calls that ended, by status and reason of the catalogue.",
            ("component", "method", "status", "reason"),
        )
        self._seconds = metrics.histogram(
            "zhichao_request_duration_seconds",
            "Unary calls, from their arrival to their answer.",
            ("component", "method"),
            buckets=REQUEST_SECONDS_BUCKETS,
        )
        self._authentication_failures = metrics.counter(
            "zhichao_authentication_failures_total",
            "Calls refused because of the credentials that they showed, or did not.",
            ("component", "reason"),
        )
        # Found by one look each: `labels()` takes locks and makes texts.
        self._ended_children: dict[tuple[str, str, str], Counter] = {}
        self._seconds_children: dict[str, Histogram] = {}
        self._methods: set[str] = set()

    def ended(self, method: str, status: str, reason: str = "", seconds: float | None = None) -> None:
        """Count a call that ended. `seconds` is given for unary calls that a handler has answered."""
        key = (method, status, reason)
        child = self._ended_children.get(key)
        if child is None:
            known = self._known(method)
            child = self._ended.labels(self.component, known, status, reason)
            if known == method:
                self._ended_children[key] = child
        child.inc()
        if seconds is not None:
            timer = self._seconds_children.get(method)
            if timer is None:
                timer = self._seconds.labels(self.component, self._known(method))
                if method in self._methods:
                    self._seconds_children[method] = timer
            timer.observe(seconds)
        if status == "UNAUTHENTICATED":
            self._authentication_failures.labels(self.component, reason).inc()

    def _known(self, method: str) -> str:
        """Return the method, or `other` when too many have been seen: callers may name what they like."""
        if method not in self._methods:
            if len(self._methods) >= METHODS_MAX:
                return OTHER
            self._methods.add(method)
        return method


class _Group(Collector):
    """Gauges that are read together at a scrape."""

    def __init__(self, metrics: Metrics, group: str, gauges: Sequence[Gauge], read: Read) -> None:
        self._metrics = metrics
        self._group = group
        self._gauges = tuple(gauges)
        self._reads = [read]
        self._guard = threading.Lock()
        self._kept: list[Metric] = []
        self._read_at: float | None = None

    def add(self, gauges: Sequence[Gauge], read: Read) -> None:
        """Read the same gauges from one more place."""
        if tuple(gauges) != self._gauges:
            raise ValueError(f"the group {self._group} has other gauges")
        self._reads.append(read)

    def describe(self) -> Iterator[Metric]:
        """Name the gauges, so that one registry has no two of the same name."""
        for gauge in self._gauges:
            yield self._family(gauge, [])

    def collect(self) -> list[Metric]:
        """Return the gauges with their values, from the last look if that was a moment ago."""
        with self._guard:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at >= READ_KEPT_SECONDS:
                self._kept = self._look()
                self._read_at = now
            return self._kept

    def _look(self) -> list[Metric]:
        try:
            told = [read() for read in self._reads]
            return [
                self._family(gauge, [sample for values in told for sample in values[gauge.name]])
                for gauge in self._gauges
                if all(gauge.name in values for values in told)
            ]
        except Exception as error:  # noqa: BLE001 - one group that cannot be read must not cost the others
            self._metrics.collection_failed(self._group, error)
            return []

    @staticmethod
    def _family(gauge: Gauge, samples: Iterable[Sample]) -> Metric:
        make = CounterMetricFamily if gauge.name.endswith("_total") else GaugeMetricFamily
        family = make(gauge.name, gauge.documentation, labels=gauge.labels)
        for sample in samples:
            family.add_metric(sample.labels, sample.value)
        return family


def level_of(platform: str) -> str:
    """Return `province`, `city` or `county`, by the digits of a platform code (GB/T 2260)."""
    above = code_above(platform)
    if not above:
        return "province"
    return "city" if not code_above(above) else "county"


def software_version() -> str:
    """Return the release that is installed; `unknown` in a checkout that is not."""
    try:
        return importlib.metadata.version("zhichao")
    except importlib.metadata.PackageNotFoundError:
        return _UNKNOWN_VERSION
