"""Follows the cosignatures that come down from the upstream and keeps them to be handed over: those of platforms
further up, and those that a relay which was killed, or a platform that pushes nothing, did not get with its pushes.
"""

import threading
from collections.abc import Callable, Collection

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.rpc_client import service_error
from services.journal.entries import is_platform_code
from services.relay.cosignatures import Cosignatures
from services.relay.limits import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN, COSIGNATURE_NOTE_CHARACTERS_MAX
from services.relay.standing import LogKey, backoff_seconds
from services.relay.upstream import CosignatureCall, Upstream
from zhichao.relay.v1 import relay_pb2

_log = structlog.get_logger()


class CosignatureFollower:
    """One thread; what it misses while the link is away it is told anew with the next connection."""

    def __init__(self, streams: Collection[str], cosignatures: Cosignatures, jitter: Callable[[], float]) -> None:
        self._streams = frozenset(streams)
        self._cosignatures = cosignatures
        self._jitter = jitter
        self._changed = threading.Condition()
        self._is_stopping = False
        self._upstream: Upstream | None = None
        self._call: CosignatureCall | None = None
        self._thread = threading.Thread(target=self._run, name="relay-follow-cosignatures", daemon=True)

    def start(self) -> None:
        """Start; nothing is followed before `use`."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more. Does not wait: see `join`."""
        with self._changed:
            self._is_stopping = True
            self._cancel()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread."""
        self._thread.join(timeout_seconds)

    def use(self, upstream: Upstream | None) -> None:
        """Follow over this connection from now on, or over none."""
        with self._changed:
            if upstream is not self._upstream:
                self._upstream = upstream
                self._cancel()

    def follow_anew(self) -> None:
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
            failure_count = 1 if self._follow(upstream) else failure_count + 1
            self._pause(upstream, failure_count)

    def _pause(self, upstream: Upstream, failure_count: int) -> None:
        pause = backoff_seconds(failure_count, self._jitter(), BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._upstream is not upstream, pause)

    def _follow(self, upstream: Upstream) -> bool:
        """Follow until the call ends; return whether anything came."""
        has_come = False
        try:
            with self._changed:
                if self._is_stopping or self._upstream is not upstream:
                    return False
                call = self._call = upstream.follow_cosignatures()
            try:
                for response in call:
                    has_come = True
                    for one in response.checkpoints:
                        if one.stream in self._streams and _is_usable(one):
                            self._cosignatures.add(LogKey(one.stream, one.origin), one.checkpoint)
            finally:
                call.cancel()
                with self._changed:
                    self._call = None
        except grpc.RpcError as error:
            _log.debug("cosignature_follow_ended", reason=service_error(error).reason.value)
        except ServiceError as error:
            _log.debug("cosignature_follow_ended", reason=error.reason.value)
        except Exception:  # noqa: BLE001 - the follower outlives any fault of one call
            _log.exception("cosignature_follow_failed")
        return has_come


def _is_usable(one: relay_pb2.CosignedCheckpoint) -> bool:
    """Tell whether it can be of a log at all; whether it is true its service finds out."""
    return is_platform_code(one.origin) and len(one.checkpoint) <= COSIGNATURE_NOTE_CHARACTERS_MAX
