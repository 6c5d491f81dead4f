"""Tokens for the terminals of a made-up site: one for each source unit, issued as for real ones."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import grpc

from cli.simulate.site import Site
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.access.v1 import credential_pb2, service_pb2, service_pb2_grpc

CALL_SECONDS: Final = 10.0

OVERLAP: Final = timedelta(hours=1)
"""A simulation that still runs goes on with its tokens when another one of the same seed begins."""

CALLS_MARGIN: Final = 4
"""Times the average rate that a unit may send: arrivals are random, and repeats come on top."""

CALLS_PER_SECOND_MIN: Final = 20
"""As much as a terminal may send anyway (services.common.access.limits)."""

BURST_SECONDS: Final = 10

_MEBIBYTE: Final = 1024 * 1024


def issue_terminals(
    stub: service_pb2_grpc.AccessServiceStub, site: Site, records_per_second: float
) -> Mapping[str, str]:
    """Return a token by source unit. Raises ServiceError when one is refused.

    A unit that has its credential from an earlier run gets a new secret for it.
    """
    calls = max(math.ceil(CALLS_MARGIN * records_per_second / len(site.units)), CALLS_PER_SECOND_MIN)
    limits = credential_pb2.CallLimits(
        calls_per_second=calls, burst_calls=calls * BURST_SECONDS, bytes_per_second=64 * _MEBIBYTE
    )
    return {unit.source_unit_id: _issue(stub, unit.source_unit_id, limits) for unit in site.units}


def _issue(stub: service_pb2_grpc.AccessServiceStub, unit: str, limits: credential_pb2.CallLimits) -> str:
    credential = credential_pb2.Credential(
        credential_id=f"sim-{unit.lower()}",
        kind=credential_pb2.PRINCIPAL_KIND_TERMINAL,
        display_name="模拟终端",
        source_unit_ids=[unit],
        limits=limits,
    )
    request: Any = service_pb2.CreateCredentialRequest(credential=credential)
    try:
        return str(stub.CreateCredential(request, timeout=CALL_SECONDS).token)
    except grpc.RpcError as error:
        refusal = service_error(error)
        if refusal.reason is not Reason.RESOURCE_EXISTS:
            raise refusal from None
    rotation = service_pb2.RotateCredentialRequest(credential_id=credential.credential_id)
    rotation.overlap.FromTimedelta(OVERLAP)
    try:
        return str(stub.RotateCredential(rotation, timeout=CALL_SECONDS).token)
    except grpc.RpcError as error:
        raise service_error(error) from None
