"""The figures of one gRPC server beside those of its calls: what runs, how old its knowledge of credentials is, and how
long its certificate is good.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Final

from services.common.access.knowledge import AccessKnowledge
from services.common.metrics import Gauge, Metrics, Sample
from services.common.tls import Tls

_LABELS: Final = ("component", "server")
_RUNNING: Final = Gauge(
    "zhichao_requests_running", "Calls in work or waiting for a thread.", ("component", "server", "kind")
)
_KNOWLEDGE: Final = Gauge("zhichao_credentials_age_seconds", "Age of the knowledge of credentials.", _LABELS)
_CERTIFICATE: Final = Gauge("zhichao_certificate_days_left", "Days until the certificate in use expires.", _LABELS)
_AUTHORITIES: Final = Gauge(
    "zhichao_authorities_days_left",
    "Days until the last of the authorities that peers are held against expires.",
    _LABELS,
)


def add_server_metrics(
    metrics: Metrics,
    server: str,
    running: Mapping[str, Callable[[], int]],
    knowledge: AccessKnowledge,
    tls: Tls | None,
) -> None:
    """Add the figures of a server; `running` counts calls by their kind."""
    labels = (metrics.component, server)

    def read() -> Mapping[str, Sequence[Sample]]:
        age = knowledge.age_seconds()
        return {
            _RUNNING.name: [Sample((*labels, kind), count()) for kind, count in running.items()],
            _KNOWLEDGE.name: [Sample(labels, age)] if isfinite(age) else [],
            _CERTIFICATE.name: [] if tls is None else [Sample(labels, tls.certificate_days_left())],
            _AUTHORITIES.name: [] if tls is None else [Sample(labels, tls.authorities_days_left())],
        }

    metrics.gauges("server", [_RUNNING, _KNOWLEDGE, _CERTIFICATE, _AUTHORITIES], read)
