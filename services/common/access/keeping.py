"""Keeps what the registry has said of access in a service's own database, so that the service can check tokens when it
starts while the registry is away. Nothing of it is done in a call's thread.
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from services.common.access.knowledge import AccessChange, AccessKnowledge
from services.common.access.statement import StatementBook, StoredStatement, UnusableStatementError, parse
from services.common.access.tokens import ServiceTokens
from services.common.clock import Clock
from services.common.errors import ServiceError
from zhichao.access.v1 import service_pb2

if TYPE_CHECKING:
    # A service without a database does without what speaks to one.
    from services.common.access.store import AccessStore

AS_OF_SECONDS: Final = 60.0
"""The time of a statement that has not changed is written this often: after a kill it looks older by so much at most,
which is little against the hour that it is good for, and is one row a minute."""

PAUSE_SECONDS: Final = 1.0
"""Between two writes: a thousand credentials that are issued one by one rewrite the statement once a second at most,
and a revocation is on disk a second after it was heard."""

FAILED_PAUSE_SECONDS: Final = 5.0
"""After a write that failed: a database that is away is not asked every second for something that nobody waits for."""

STOP_SECONDS_MAX: Final = 5.0
"""How long a stop waits for the last write; a database that hangs must not hold it up."""

CLOCK_AHEAD_SECONDS_MAX: Final = 300.0
"""A statement may be from so far in the future: the registry's clock may be that much ahead of ours, as Kerberos allows
by default (RFC 4120, 10). One from further ahead shows that a clock was set back, and its age is not known."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SEALED: Final = b"zhichao access statement 1"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was kept before this start, and was found to be ours."""

    change: AccessChange
    as_of: datetime


class StatementKeeper:
    """Keeps the newest statement of one service, in a thread of its own, and gives back what was kept before the start.

    A statement is good for as long as knowledge is that was heard: no longer than `stale_seconds`, by wall clock.
    """

    def __init__(
        self, store: "AccessStore", platform: str, tokens: ServiceTokens, clock: Clock, *, stale_seconds: float
    ) -> None:
        self._store = store
        self._platform = platform
        self._tokens = tokens
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._kept: _Kept | None = None
        self._told = ""
        self._said = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-keeper", daemon=True)
        self._has_failed = False
        # Guarded by `_said`: what is to be written.
        self._book = StatementBook()
        self._is_changed = False
        # Of the writing thread: what was written last.
        self._content = b""
        self._digest = b""
        self._written_as_of: datetime | None = None

    def start(self, knowledge: AccessKnowledge) -> None:
        """Give the knowledge what was kept, and begin to keep. Raises ServiceError DATABASE_UNAVAILABLE.

        A row that is none of ours is as good as none, with a warning.
        """
        stored = self._store.read(self._platform)
        if stored is not None:
            try:
                self._kept = _Kept(self._checked(stored), stored.as_of)
            except UnusableStatementError as error:
                _log.warning("kept_access_not_taken", cause=str(error))
        self.offer(knowledge)
        self._thread.start()

    def stop(self) -> None:
        """Write what is newest and stop. May be called when it was never started."""
        self._stopping.set()
        with self._said:
            self._said.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS_MAX)

    def offer(self, knowledge: AccessKnowledge) -> None:
        """Give the knowledge what was kept, as old as it is now, as long as the registry has said nothing.

        Called again while the registry is away, because the clock may be set right meanwhile: what was from the future
        may be good then, and what was given may turn out to be older.
        """
        kept = self._kept
        if kept is None:
            return
        age = (self._clock.now() - kept.as_of).total_seconds()
        if knowledge.is_known:
            knowledge.grow_old(age)
        elif age < -CLOCK_AHEAD_SECONDS_MAX:
            self._tell("future", f"it is from {-age:.0f} s in the future: look at the clock of this machine")
        elif age > self._stale_seconds:
            self._tell("age", f"it is {age:.0f} s old, more than ZHICHAO_CREDENTIALS_STALE_SECONDS")
        else:
            knowledge.take(kept.change, age_seconds=max(age, 0.0))
            _log.info("kept_access_taken", age_seconds=round(age), credentials=len(kept.change.credentials))

    def take(self, message: service_pb2.WatchAccessResponse) -> None:
        """Take what the registry has just said; it is written soon. What was kept before is nobody's business then."""
        with self._said:
            if message.is_complete:
                self._kept = None
            self._is_changed |= self._book.take(message)
            self._said.notify_all()

    # Reading

    def _checked(self, stored: StoredStatement) -> AccessChange:
        if stored.platform != self._platform:
            raise UnusableStatementError(f"it is of platform {stored.platform}, this is {self._platform}")
        if sha256(stored.content).digest() != stored.digest:
            raise UnusableStatementError("it is not what was written")
        if not self._tokens.is_seal(stored.seal, _sealed(stored.platform, stored.as_of, stored.digest)):
            raise UnusableStatementError("it was not sealed with a service token of this platform that is in use")
        return parse(stored.content)

    def _tell(self, kind: str, cause: str) -> None:
        # Once, though it is looked at every two seconds and the age is another one each time.
        if kind != self._told:
            self._told = kind
            _log.warning("kept_access_not_taken", cause=cause)

    # Writing

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._said:
                self._said.wait_for(lambda: self._stopping.is_set() or self._is_due())
            if not self._stopping.is_set():
                self._write()
                self._stopping.wait(FAILED_PAUSE_SECONDS if self._has_failed else PAUSE_SECONDS)
        self._write()

    def _is_due(self) -> bool:
        as_of, written = self._book.as_of, self._written_as_of
        if as_of is None:
            return False
        # Either way: the registry's clock may have been set back.
        return self._is_changed or written is None or abs((as_of - written).total_seconds()) >= AS_OF_SECONDS

    def _write(self) -> None:
        """Write what is newer than what is there. Raises nothing: what cannot be written is tried again."""
        with self._said:
            as_of = self._book.as_of
            if as_of is None or (as_of == self._written_as_of and not self._is_changed):
                return
            if self._is_changed:
                self._content = self._book.content()
            self._is_changed = False
        digest = sha256(self._content).digest()
        seal = self._tokens.seal(_sealed(self._platform, as_of, digest))
        stored = StoredStatement(self._platform, as_of, digest, seal, self._content)
        try:
            if digest != self._digest or not self._store.set_as_of(stored):
                self._store.write(stored)
        except ServiceError as error:
            self._failed(error.reason.value)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # The thread outlives any fault: without it what is kept would get old without anybody noticing.
            _log.exception("access_not_kept")
            self._failed("fault")
        else:
            self._digest, self._written_as_of, self._has_failed = digest, as_of, False

    def _failed(self, reason: str) -> None:
        with self._said:
            # Written whole the next time, whatever is there then.
            self._is_changed = True
            self._digest = b""
        if not self._has_failed:
            _log.warning("access_not_kept", reason=reason)
        self._has_failed = True


def _sealed(platform: str, as_of: datetime, digest: bytes) -> bytes:
    """Return what the seal is over: none of it can be changed, the time least of all, without the service token."""
    microseconds = (as_of - _EPOCH) // _MICROSECOND
    return b"\n".join((_SEALED, platform.encode(), str(microseconds).encode(), digest))
