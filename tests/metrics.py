"""Reads the figures of a service as Prometheus does."""

import http.client
from contextlib import closing

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.common.metrics import Metrics

SCRAPE_SECONDS = 10.0


class Scrape:
    """What a service shows at one moment."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    @property
    def names(self) -> set[str]:
        """Names of all series."""
        return {name for name, _ in self.samples}

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value; None where there is no such series."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def values(self, name: str, label: str) -> dict[str, float]:
        """Return all values of a name by one of its labels."""
        return {dict(labels)[label]: value for (one, labels), value in self.samples.items() if one == name}


def scrape(address: str | None) -> Scrape:
    """Read the figures from the port where they are served."""
    assert address is not None, "metrics are served"
    with closing(http.client.HTTPConnection(address, timeout=SCRAPE_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        return Scrape(answer.read().decode())


def shown_by(metrics: Metrics) -> Scrape:
    """Read the figures of a service in this process."""
    return Scrape(generate_latest(metrics.registry).decode())
