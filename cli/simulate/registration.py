"""Registration of a made-up site with the registry of its platform; may be repeated at any time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import grpc

from cli.simulate.site import Site
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.registry.v1 import resources_pb2, service_pb2, service_pb2_grpc

# A registry that starts with its database on a slow machine is there after a few seconds.
REGISTRATION_SECONDS = 60.0
_CALL_SECONDS = 10.0
_PAUSE_FIRST_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 2.0
_DECEMBER = 12


@dataclass
class Registration:
    """What became of the resources."""

    # Held now: just created, or held already with the same content.
    held: int = 0
    # Held already with other content, which was left as it is.
    differing: list[str] = field(default_factory=list)
    # Doubts of the registry about what it took.
    warnings: list[str] = field(default_factory=list)


def register_site(
    stub: service_pb2_grpc.RegistryServiceStub,
    site: Site,
    *,
    today: date,
    timeout_seconds: float = REGISTRATION_SECONDS,
) -> Registration:
    """Create divisions, platforms, source units, points, scales and certificates, in the order that they refer to.

    Safe to repeat: what is held is left alone. Waits for a registry that is not there yet. Raises ServiceError when it
    stays away or refuses something.
    """
    deadline = time.monotonic() + timeout_seconds
    registration = Registration()

    def create(method: Callable[..., Any], request: Any, name: str) -> None:
        created = _create(method, request, deadline)
        if created is None:
            registration.differing.append(name)
            return
        registration.held += 1
        (resource,) = (value for _, value in created.ListFields())
        registration.warnings += [
            f"{name}: {warning.field}: {warning.description}" for warning in resource.info.warnings
        ]

    for division in site.divisions:
        request: Any = service_pb2.CreateDivisionRequest(division=division)
        create(stub.CreateDivision, request, division.division_code)
    for platform in site.platforms:
        request = service_pb2.CreatePlatformRequest(platform=platform)
        create(stub.CreatePlatform, request, platform.platform_code)
    for unit in site.units:
        request = service_pb2.CreateSourceUnitRequest(source_unit=unit)
        create(stub.CreateSourceUnit, request, unit.source_unit_id)
    for station in site.stations:
        name = f"{station.point.source_unit_id}/{station.point.weighing_point_id}"
        request = service_pb2.CreateWeighingPointRequest(weighing_point=station.point)
        create(stub.CreateWeighingPoint, request, name)
        request = service_pb2.CreateScaleRequest(scale=station.scale)
        create(stub.CreateScale, request, f"{name}/{station.scale.scale_id}")
    # Last year's for backlogs, next year's in time for New Year's Eve.
    for certificate in site.certificates(today.year - 1, today.year + (today.month == _DECEMBER)):
        request = service_pb2.CreateVerificationCertificateRequest(verification_certificate=certificate)
        create(stub.CreateVerificationCertificate, request, certificate.certificate_number)
    return registration


def register_below(
    stub: service_pb2_grpc.RegistryServiceStub,
    lower: str,
    upper: str,
    *,
    timeout_seconds: float = REGISTRATION_SECONDS,
) -> None:
    """Register a platform at the one above it, which lets nobody in that it has not registered. Safe to repeat.

    Raises ServiceError.
    """
    platform = resources_pb2.Platform(platform_code=lower, name=f"{lower} 治超平台", upstream_code=upper)
    request: Any = service_pb2.CreatePlatformRequest(platform=platform)
    _create(stub.CreatePlatform, request, time.monotonic() + timeout_seconds)


def _create(method: Callable[..., Any], request: Any, deadline: float) -> Any | None:
    """Create one resource, patiently; None when it is held with other content."""
    pause_seconds = _PAUSE_FIRST_SECONDS
    while True:
        try:
            return method(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as rpc_error:
            error = service_error(rpc_error)
            if error.reason is Reason.RESOURCE_EXISTS:
                return None
            pause_seconds = _pause(error, pause_seconds, deadline)


def _pause(error: ServiceError, pause_seconds: float, deadline: float) -> float:
    """Wait before the next try and return the pause after it; raise the error when no try is left."""
    wait_seconds = max(error.retry_after_seconds or 0.0, random.uniform(0.5, 1.0) * pause_seconds)  # noqa: S311 - jitter
    if not error.is_retryable or time.monotonic() + wait_seconds > deadline:
        raise error
    time.sleep(wait_seconds)
    return min(pause_seconds * 2, _PAUSE_SECONDS_MAX)
