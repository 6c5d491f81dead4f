"""The figures of the registry: whether somebody is there to issue and revoke credentials, and by what right."""

from collections.abc import Mapping, Sequence
from typing import Final

from services.common.metrics import Gauge, Metrics, Sample
from services.registry.bootstrap import Bootstrap

_ADMINISTRATORS: Final = Gauge(
    "zhichao_registry_security_administrators",
    "Valid credentials of security administrators for the whole platform.",
)
_ACCEPTED: Final = Gauge("zhichao_registry_bootstrap_token_accepted", "1 while the bootstrap token is accepted.")


def add_access_metrics(metrics: Metrics, bootstrap: Bootstrap) -> None:
    """Add the figures; `bootstrap` has been told of the administrators."""

    def read() -> Mapping[str, Sequence[Sample]]:
        return {
            _ADMINISTRATORS.name: [Sample((), bootstrap.administrator_count)],
            _ACCEPTED.name: [Sample((), int(bootstrap.is_configured and not bootstrap.is_over))],
        }

    metrics.gauges("access", [_ADMINISTRATORS, _ACCEPTED], read)
