"""Ends the recovery of logs that were restored and that nobody above can be asked about."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from cli.status_targets import LOOK_SECONDS_MAX, Target
from services.common.rpc_client import service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

CONFIRM_SECONDS_MAX = 30.0


class RecoveryError(Exception):
    """Why nothing was confirmed, for a person."""


@dataclass(frozen=True)
class Recovering:
    """An own log that is not written to until it was compared."""

    service: str
    size: int
    root: bytes


class RecoveringServices:
    """The services of one platform, asked for their own logs; each call has a connection of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def upstream(self) -> str:
        """Return the address of the upstream that the platform's relay is configured with; empty for none.

        Raises RecoveryError when the relay does not answer: then it is not known whether there is one.
        """
        if "relay" not in self._target.addresses:
            raise RecoveryError(
                "the relay must be named too (--service): it knows whether there is an upstream"
                " 还须用 --service 指定转发服务, 由它得知是否有上级"
            )
        with self._target.connect("relay", "operator") as channel:
            stub = relay_pb2_grpc.RelayServiceStub(channel)
            try:
                answer = stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=LOOK_SECONDS_MAX)
            except grpc.RpcError as error:
                raise RecoveryError(
                    f"the relay does not answer: {service_error(error).message} 转发服务无应答"
                ) from error
        return answer.upstream_address

    def find(self) -> list[Recovering]:
        """Return the own logs that are recovering. Raises grpc.RpcError."""
        found = []
        for name in self._target.addresses:
            if name == "relay":
                continue
            with self._target.connect(name, "operator") as channel:
                stub = journal_pb2_grpc.JournalServiceStub(channel)
                answer = stub.ListPositions(journal_pb2.ListPositionsRequest(), timeout=LOOK_SECONDS_MAX)
            found += [Recovering(name, one.size, one.root) for one in answer.positions if one.is_recovering]
        return found

    def confirm(self, recovering: list[Recovering]) -> Mapping[str, int]:
        """End the recovery of these logs as they stand; return their sizes by service. Raises grpc.RpcError."""
        sizes = {}
        for one in recovering:
            with self._target.connect(one.service, "operator") as channel:
                stub = journal_pb2_grpc.JournalServiceStub(channel)
                request = journal_pb2.ConfirmOwnLogRequest(size=one.size, root=one.root if one.size else b"")
                answer = stub.ConfirmOwnLog(request, timeout=CONFIRM_SECONDS_MAX)
            sizes[one.service] = answer.position.size
        return sizes
