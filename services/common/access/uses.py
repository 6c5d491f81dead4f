"""When credentials were used last: noted by calls, told to the registry once a minute, and kept while it is away."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.rpc_client import service_error
from zhichao.access.v1 import service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    # A service without a database does without what speaks to one.
    from services.common.access.store import AccessStore

REPORT_SECONDS: Final = 60.0
"""Last uses are kept to the minute, so they are told once a minute."""

USES_MAX: Final = 10_000
"""Credentials whose use waits to be told; more in one minute than a province has terminals at work, and what one report
takes (the contract). Beyond it the use is told a minute later, and what is oldest not at all."""

CALL_SECONDS_MAX: Final = 5.0

STOP_CALL_SECONDS_MAX: Final = 2.0
"""For the last report before a stop: a registry that answers does it in milliseconds, and one that does not is told by
the next start."""

_log = structlog.get_logger()


class UseBook:
    """Notes which credentials were used, cheaply, for the next report."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[str, datetime] = {}

    def note(self, credential_id: str) -> None:
        """Note a use now. One that is noted already and not yet told stays as it is: a minute decides nothing."""
        if credential_id not in self._uses and len(self._uses) < USES_MAX:
            self._uses[credential_id] = self._clock.now()

    def take(self) -> dict[str, datetime]:
        """Take what was noted and begin anew."""
        taken, self._uses = self._uses, {}
        return taken


def newest(uses: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return the uses, without the oldest ones if there are more than one report takes."""
    if len(uses) <= USES_MAX:
        return dict(uses)
    return dict(sorted(uses.items(), key=lambda use: use[1], reverse=True)[:USES_MAX])


class UseReporter:
    """Tells the registry of last uses. What it could not be told waits, with a `store` also over a restart.

    Telling twice changes nothing: at the registry the later time stays.
    """

    def __init__(self, book: UseBook, open_channel: Callable[[], grpc.Channel], store: "AccessStore | None") -> None:
        self._book = book
        self._open_channel = open_channel
        self._store = store
        self._untold: dict[str, datetime] = {}
        self._has_kept = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-report", daemon=True)

    def start(self) -> None:
        """Take what was left untold, and begin to tell. Raises ServiceError DATABASE_UNAVAILABLE."""
        if self._store is not None:
            self._untold = self._store.read_uses(USES_MAX)
            self._has_kept = bool(self._untold)
        self._thread.start()

    def stop(self) -> None:
        """Tell the last uses, or keep them, and stop. May be called when it was never started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(CALL_SECONDS_MAX)
            self.report(STOP_CALL_SECONDS_MAX)

    def _run(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            self.report()

    def report(self, seconds_max: float = CALL_SECONDS_MAX) -> None:
        """Tell the registry of the last uses; what cannot be told is kept for the next time. Raises nothing."""
        # What was noted now is later than what waits.
        uses = newest(self._untold | self._book.take())
        if not uses:
            return
        self._untold = uses
        request = service_pb2.ReportUseRequest()
        for credential_id, used in uses.items():
            request.uses.add(credential_id=credential_id).last_use_time.FromDatetime(used)
        try:
            with self._open_channel() as channel:
                service_pb2_grpc.AccessServiceStub(channel).ReportUse(request, timeout=seconds_max)
        except grpc.RpcError as error:
            _log.warning("credential_uses_not_told", count=len(uses), reason=service_error(error).reason.value)
            self._keep(uses)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # As a certificate that cannot be used: the thread outlives it, or nothing was told until the next start.
            _log.exception("credential_uses_not_told", count=len(uses))
            self._keep(uses)
        else:
            self._untold = {}
            self._forget(uses)

    def _keep(self, uses: Mapping[str, datetime]) -> None:
        if self._store is not None and self._is_done(self._store.keep_uses, uses):
            self._has_kept = True

    def _forget(self, uses: Mapping[str, datetime]) -> None:
        # What could not be forgotten is told once more after a start, which changes nothing.
        if self._store is not None and self._has_kept and self._is_done(self._store.forget_uses, uses):
            self._has_kept = False

    def _is_done(self, step: Callable[[Mapping[str, datetime]], None], uses: Mapping[str, datetime]) -> bool:
        """Do something to the store; tell whether it was done. The thread outlives any fault of the database."""
        try:
            step(uses)
        except ServiceError as error:
            _log.warning("credential_uses_not_kept", count=len(uses), reason=error.reason.value)
            return False
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("credential_uses_not_kept", count=len(uses))
            return False
        return True
