"""The figures of the directory: whose rule sets are known, and whose log is left alone. Read when somebody scrapes."""

from collections.abc import Callable, Mapping
from typing import Final

from services.common.metrics import Gauge, Metrics, Sample

_RULE_SETS: Final = Gauge(
    "zhichao_directory_rule_sets",
    "Versions of rule sets that are known here, by the platform that published them.",
    ("origin",),
)
_REFUSED: Final = Gauge(
    "zhichao_directory_refused_logs",
    "Registry logs of platforms above that bring no rule sets any more until a person has looked.",
)


def add_directory_metrics(
    metrics: Metrics, count_rule_sets: Callable[[], Mapping[str, int]], count_refused: Callable[[], int]
) -> None:
    """Add the figures of a directory."""
    metrics.gauges(
        "directory",
        [_RULE_SETS, _REFUSED],
        lambda: {
            _RULE_SETS.name: [Sample((origin,), float(count)) for origin, count in count_rule_sets().items()],
            _REFUSED.name: [Sample((), float(count_refused()))],
        },
    )
