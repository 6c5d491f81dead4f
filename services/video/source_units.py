"""What the registry of this platform says of source units, kept in the database: what was asked once goes on being
known while the registry is away, also after a restart.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import grpc
import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.reasons import Reason
from services.common.rpc_client import call_timeout_seconds, service_error
from services.video import refusals_uploading as refusals
from services.video.store import source_units as store
from services.video.store.source_units import SourceUnitRow
from zhichao.registry.v1 import service_pb2, service_pb2_grpc

FRESH: Final = timedelta(minutes=10)
"""How long an answer is good without asking again: source units move between divisions once in years."""

CALL_SECONDS_MAX: Final = 2.0
"""An answer takes milliseconds; an upload waits for it."""

AWAY_SECONDS: Final = 5.0
"""After a call that failed the registry is not asked again for so long about what is known: each upload would wait."""

_log = structlog.get_logger()


class SourceUnits:
    """Source units of this platform. Threads may share it."""

    def __init__(self, engine: Engine, own: str, open_registry: Callable[[], grpc.Channel], clock: Clock) -> None:
        self._engine = engine
        self._own = own
        self._open_registry = open_registry
        self._clock = clock
        self._channel: grpc.Channel | None = None
        # On the scale of monotonic(): before it the registry counts as away.
        self._away_until = 0.0

    def start(self) -> None:
        """Open the channel to the registry, which may be away."""
        self._channel = self._open_registry()

    def stop(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def division_of(self, source_unit_id: str) -> str:
        """Return the code of the division in which a source unit of this platform lies.

        Raises ServiceError UNKNOWN_SOURCE_UNIT if the registry knows none of that id, SERVICE_UNAVAILABLE if it is away
        and nothing is kept, DATABASE_UNAVAILABLE.
        """
        with translate_errors(), reading(self._engine) as pooled:
            kept = store.read_source_unit(raw_connection(pooled), source_unit_id)
        now = self._clock.now()
        if kept is not None and kept.read_time + FRESH > now:
            return kept.division_code
        if kept is not None and self._clock.monotonic() < self._away_until:
            return kept.division_code
        asked = self._ask(source_unit_id)
        if asked is None:
            if kept is None:
                raise refusals.registry_away(source_unit_id)
            return kept.division_code
        with translate_errors(), self._engine.begin() as pooled:
            store.put_source_unit(raw_connection(pooled), SourceUnitRow(source_unit_id, asked, now))
        return asked

    def _ask(self, source_unit_id: str) -> str | None:
        """Return the division; None when the registry cannot be asked. Raises ServiceError UNKNOWN_SOURCE_UNIT."""
        if self._channel is None:
            return None
        stub = service_pb2_grpc.RegistryServiceStub(self._channel)
        request = service_pb2.GetSourceUnitRequest(source_unit_id=source_unit_id, origin=self._own)
        try:
            answer = stub.GetSourceUnit(request, timeout=call_timeout_seconds(CALL_SECONDS_MAX))
        except (grpc.RpcError, ValueError) as error:
            # ValueError is what a channel that was closed at our stop raises.
            cause = service_error(error) if isinstance(error, grpc.RpcError) else None
            if cause is not None and cause.reason is Reason.NOT_FOUND:
                raise refusals.unknown_unit(source_unit_id) from error
            _log.warning("source_unit_not_read", reason=cause.reason.value if cause else "closed")
            self._away_until = self._clock.monotonic() + AWAY_SECONDS
            return None
        return answer.source_unit.division_code
