"""A watch that lasts as long as there is a link: opened again after pauses, and over the next connection."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay.limits import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN
from services.relay.standing import backoff_seconds
from services.relay.upstream import Upstream

_log = structlog.get_logger()


class LinkWatch:
    """One watch in a thread of its own, over the connection that is set, for as long as there is one.

    `open_call` opens it; `take` gets each message; `ended` is told why it does not go on, None if that is nobody's
    fault. All are called from the watch's thread.
    """

    def __init__(
        self,
        name: str,
        open_call: Callable[[Upstream], Any],
        take: Callable[[Upstream, Any], None],
        ended: Callable[[Upstream, ServiceError | None], None],
        read_error: Callable[[grpc.RpcError], ServiceError],
        jitter: Callable[[], float],
    ) -> None:
        self._name = name
        self._open_call = open_call
        self._take = take
        self._ended = ended
        self._read_error = read_error
        self._jitter = jitter
        self._changed = threading.Condition()
        self._is_stopping = False
        self._upstream: Upstream | None = None
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, name=f"relay-{name}", daemon=True)

    def start(self) -> None:
        """Start; nothing is watched before `use`."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Does not wait: see `join`."""
        with self._changed:
            self._is_stopping = True
            self._cancel()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread."""
        self._thread.join(timeout_seconds)

    def use(self, upstream: Upstream | None) -> None:
        """Watch for this connection from now on, or for none."""
        with self._changed:
            if upstream is not self._upstream:
                self._upstream = upstream
                self._cancel()

    def watch_anew(self) -> None:
        """Begin again with another call."""
        with self._changed:
            self._cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._changed.notify_all()

    def _run(self) -> None:
        failure_count = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or self._upstream is not None)
                upstream = self._upstream
                if self._is_stopping or upstream is None:
                    return
            has_come, error = self._watch(upstream)
            self._ended(upstream, error if self._is_used(upstream) else None)
            failure_count = 1 if has_come else failure_count + 1
            self._pause(upstream, failure_count)

    def _is_used(self, upstream: Upstream) -> bool:
        with self._changed:
            return not self._is_stopping and self._upstream is upstream

    def _pause(self, upstream: Upstream, failure_count: int) -> None:
        pause = backoff_seconds(failure_count, self._jitter(), BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._upstream is not upstream, pause)

    def _watch(self, upstream: Upstream) -> tuple[bool, ServiceError | None]:
        """Watch until the call ends; return whether anything came, and why it ended."""
        has_come = False
        try:
            with self._changed:
                if self._is_stopping or self._upstream is not upstream:
                    return False, None
                call = self._call = self._open_call(upstream)
            try:
                for response in call:
                    has_come = True
                    self._take(upstream, response)
            finally:
                call.cancel()
                with self._changed:
                    self._call = None
        except grpc.RpcError as failure:
            error = self._read_error(failure)
        except ServiceError as failure:
            error = failure
        except Exception as fault:  # noqa: BLE001 - the watch outlives any fault of one call
            _log.exception("link_watch_failed", watch=self._name)
            error = ServiceError(Reason.INTERNAL, type(fault).__name__)
        else:
            return has_come, None
        _log.debug("link_watch_ended", watch=self._name, reason=error.reason.value)
        # One that worked has ended: it is opened again at once, and what is wrong then is told.
        return has_come, None if has_come else error
