"""The registry's own knowledge of who may do what: fed from its own database, in process, by the statement that other
services follow over the wire.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog

from services.common.access.control import AccessControl
from services.common.access.convert import access_change
from services.common.access.knowledge import AccessKnowledge
from services.common.access.mounting import service_tokens
from services.common.access.uses import REPORT_SECONDS, UseBook, newest
from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.settings import PlatformSettings
from services.journal.store.tail import Tail
from services.registry import bindings
from services.registry.access_statement import HEARTBEAT_SECONDS, AccessStatement
from services.registry.bootstrap import Bootstrap

JOIN_SECONDS_MAX: Final = HEARTBEAT_SECONDS * 2
"""How long a stop waits for the thread: it is woken, and a database that hangs must not hold it up."""

_log = structlog.get_logger()


class OwnAccess:
    """Keeps an AccessKnowledge in step with this registry's database, whichever replica writes there."""

    def __init__(
        self,
        engine: Engine,
        platform: str,
        tail: Tail,
        clock: Clock,
        knowledge: AccessKnowledge,
        bootstrap: Bootstrap,
        keep_uses: Callable[[Mapping[str, datetime], int], None],
    ) -> None:
        self._engine = engine
        self._platform = platform
        self._tail = tail
        self._clock = clock
        self._knowledge = knowledge
        self._bootstrap = bootstrap
        self._uses = UseBook(clock)
        self._unkept: dict[str, datetime] = {}
        self._uses_kept_at = clock.monotonic()
        self._keep_uses = keep_uses
        self._statement = AccessStatement(platform)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="own-access", daemon=True)

    def control(self, platform: PlatformSettings) -> AccessControl:
        """Make what the registry's server holds its calls against. Raises SettingsError."""
        return AccessControl(
            platform.platform,
            self._knowledge,
            service_tokens(platform),
            self._clock,
            stale_seconds=platform.credentials_stale_seconds,
            trust_domain=platform.trust_domain,
            on_use=self._uses.note,
            bootstrap=self._bootstrap.principal,
        )

    def start(self) -> None:
        """Learn everything, then follow. Raises ServiceError DATABASE_UNAVAILABLE."""
        self._learn()
        self._thread.start()

    def stop(self) -> None:
        """Keep the last uses and stop."""
        self._stopping.set()
        self._tail.wake()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS_MAX)
        self._keep()

    def announce(self, origin: str) -> None:
        """Wake the followers of the own log, and learn what was committed before the caller gets its answer."""
        self._tail.announce(origin)
        self.refresh()

    def refresh(self) -> None:
        """Learn what was committed until now: whoever was given a credential may use it here at once.

        Raises nothing: what was committed stays so if the database has gone away meanwhile; the thread tries again.
        """
        try:
            self._learn()
        except ServiceError as error:
            _log.warning("own_access_interrupted", reason=error.reason.value)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # The thread outlives any fault: without it a revocation would stay unknown here.
            _log.exception("own_access_failed")

    def _learn(self) -> None:
        with self._guard:
            try:
                now = self._clock.now()
                with translate_errors(), reading(self._engine) as pooled:
                    connection = raw_connection(pooled)
                    said = self._statement.read(connection, now)
                    # Each time: the bootstrap token begins anew when the last administrator's time is over.
                    self._bootstrap.note_administrators(bindings.administrators(connection, self._platform, now))
                for message in said:
                    self._knowledge.take(access_change(message))
            except BaseException:
                # Whatever was taken of it: next time everything is said again.
                self._statement = AccessStatement(self._platform)
                raise

    def _run(self) -> None:
        while not self._stopping.is_set():
            seen = self._tail.count(self._platform)
            self.refresh()
            if self._clock.monotonic() >= self._uses_kept_at + REPORT_SECONDS:
                self._keep()
            self._tail.wait(self._platform, seen, lambda: not self._stopping.is_set())

    def _keep(self) -> None:
        """Keep the last uses of the registry itself; what cannot be kept waits for the next time."""
        self._uses_kept_at = self._clock.monotonic()
        uses = newest(self._unkept | self._uses.take())
        try:
            self._keep_uses(uses, len(uses))
        except ServiceError as error:
            self._unkept = uses
            _log.warning("credential_uses_not_kept", count=len(uses), reason=error.reason.value)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # The thread outlives any fault, as above.
            self._unkept = uses
            _log.exception("credential_uses_not_kept", count=len(uses))
        else:
            self._unkept = {}
