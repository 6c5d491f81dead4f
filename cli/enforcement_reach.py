"""Which enforcement service a command means, and who calls it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from cli.access import CallerAccess, refusal
from cli.service_reach import Reach, ReachedService

if TYPE_CHECKING:
    import grpc

    from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

CALL_SECONDS_MAX: Final = 20.0
"""A directive is written in milliseconds; who issues one waits for the registry too."""

CALLER_TOKENS: Final = ("operator",)
"""Whose token is shown on a local platform unless told otherwise."""

_ENFORCEMENT: Final = ReachedService("enforcement", "enforcement service", "执法服务")

reaching = _ENFORCEMENT.reaching


@contextmanager
def enforcement_service(reach: Reach, *, repeat_with: str = "") -> "Iterator[EnforcementServiceStub]":
    """Reach the service that is meant; what it refuses becomes a message.

    `repeat_with` is what makes a repeated command the same one, told when nobody knows what became of the first.
    """
    from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

    def told(error: "grpc.RpcError", access: CallerAccess) -> click.ClickException:
        from services.common.rpc_client import service_error

        message = refusal(error, access)
        if repeat_with and service_error(error).is_retryable:
            again = f"again, without issuing it twice 可用相同编号重试: {repeat_with}"
            return click.ClickException(f"{message.message}\n  {again}")
        return message

    with _ENFORCEMENT.channel(reach, CALLER_TOKENS, told) as channel:
        yield EnforcementServiceStub(channel)
