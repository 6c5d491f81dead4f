"""Brings an own log back that was restored from a backup: fetches what the upstream still holds of it, and ends the
recovery once both sides were compared. Meanwhile the service writes nothing, so no sequence is used twice.
"""

from collections.abc import Callable

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay.limits import LOCAL_CALL_SECONDS_MAX, RESTORE_BATCH_SECONDS_MAX
from services.relay.local_services import LocalService
from services.relay.standing import LogKey, Standing
from services.relay.upstream import Upstream
from zhichao.journal.v1 import journal_pb2

_log = structlog.get_logger()


class OwnServiceFailed(Exception):  # noqa: N818 - reads as the fact it is
    """The own service refused, or is away."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.message)
        self.error = error


def bring_back(
    key: LogKey,
    service: LocalService,
    upstream: Upstream,
    local_size: int,
    remote: Standing,
    is_wanted: Callable[[], bool],
) -> None:
    """Append to the own log what the upstream holds beyond `local_size`, then end its recovery.

    Raises OwnServiceFailed, with HISTORY_MISMATCH when the service wrote something else since the backup, and
    ServiceError when the upstream fails, or ends before it has sent everything that it holds. What was brought back
    stays; called again it goes on there.
    """
    _log.warning("recovery_began", stream=key.stream, origin=key.origin, held=local_size, upstream_holds=remote.size)
    size, root = local_size, b""
    for response in upstream.read_own_entries(key.stream, local_size + 1):
        try:
            answer = service.journal.RestoreEntries(
                journal_pb2.RestoreEntriesRequest(batch=response.batch), timeout=RESTORE_BATCH_SECONDS_MAX
            )
        except grpc.RpcError as error:
            raise OwnServiceFailed(service.failure(error)) from error
        size, root = answer.position.size, answer.position.root
        if not is_wanted():
            break
    if size < remote.size:
        raise ServiceError(
            Reason.SHUTTING_DOWN,
            f"the upstream has sent back {key.origin} up to {size} of {remote.size} entries",
            metadata={"stream": key.stream},
        )
    # Every batch ended at a checkpoint that we signed ourselves, of the root that it has here now.
    confirm(key, service, Standing(size, root))
    _log.warning("recovery_finished", stream=key.stream, origin=key.origin, restored=size - local_size, size=size)


def confirm(key: LogKey, service: LocalService, remote: Standing) -> None:
    """End the recovery of an own log of which the upstream holds no more than we do. Raises OwnServiceFailed."""
    request = journal_pb2.ConfirmOwnLogRequest(size=remote.size, root=remote.root)
    try:
        service.journal.ConfirmOwnLog(request, timeout=LOCAL_CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        raise OwnServiceFailed(service.failure(error)) from error
    _log.info("recovery_confirmed", stream=key.stream, origin=key.origin, upstream_holds=remote.size)
