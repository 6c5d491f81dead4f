"""What has to hold for the end of every call, whoever calls with whatever bytes."""

from dataclasses import dataclass
from typing import Final

from grpc_health.v1 import health_pb2

from services.common.access.permissions import Permission
from services.common.reasons import SPECS, Reason
from services.common.rpc_limits import MESSAGE_BYTES_MAX
from services.common.rpc_status import ERROR_DOMAIN
from tests.fuzzing.calls import Manner, Outcome
from tests.fuzzing.methods import HEALTH, Rpc

# What a client must never be told: how the service is made.
INTERNALS: Final = (
    b"Traceback",
    b"psycopg",
    b"sqlalchemy",
    b"site-packages",
    b"services/",
    b".py",
    b"SELECT ",
    b"INSERT ",
    b"postgresql:",
    b"Exception",
)

METADATA_BYTES_MAX: Final = 8 * 1024
"""What gRPC takes of metadata; from there on it may refuse a call itself, at random up to twice as much."""

FAULTS: Final = frozenset({"INTERNAL", "UNKNOWN"})

GATE: Final = frozenset(
    {
        Reason.NO_CREDENTIALS,
        Reason.INVALID_CREDENTIALS,
        Reason.AUTHENTICATION_DELAYED,
        Reason.PERMISSION_MISSING,
        Reason.PLATFORM_NOT_REGISTERED,
        Reason.MALFORMED_MESSAGE,
        Reason.MESSAGE_TOO_LARGE,
        Reason.RATE_LIMITED,
    }
)
"""Reasons of the gate, which end a call before its method sees it."""


@dataclass(frozen=True)
class Secrets:
    """What must not get out: of other units, of persons, and of credentials."""

    other_units: tuple[bytes, ...]
    persons: tuple[bytes, ...]
    tokens: tuple[bytes, ...]


def complaint(
    rpc: Rpc,
    permissions: frozenset[Permission],
    is_bound: bool,
    contents: list[bytes],
    manner: Manner,
    outcome: Outcome,
    secrets: Secrets,
    *,
    is_served_elsewhere: bool,
) -> str:
    """Return what is wrong with the end of a call; empty when nothing is."""
    if outcome.status in FAULTS:
        return "a fault"
    said = outcome.message.encode() + outcome.details
    if any(one in said for one in INTERNALS):
        return "tells how it is made"
    if outcome.status != "OK" and not outcome.was_left:
        wrong = _wrong_refusal(rpc, contents, manner, outcome, is_served_elsewhere=is_served_elsewhere)
        if wrong:
            return wrong
    everything = b"".join(outcome.answers) + said
    if any(one in everything for one in secrets.tokens):
        return "shows a secret"
    if is_bound and any(one in everything for one in secrets.other_units):
        return "shows what is of another unit"
    may_see = permissions & {Permission.PERSONAL_DATA_READ, Permission.JOURNAL_READ}
    if not may_see and any(one in everything for one in secrets.persons):
        return "shows personal data"
    return ""


def _wrong_refusal(
    rpc: Rpc, contents: list[bytes], manner: Manner, outcome: Outcome, *, is_served_elsewhere: bool
) -> str:
    if not outcome.reason:
        # Some calls gRPC itself does not take in (docs/errors.md).
        is_miscounted = manner.messages is not None and not rpc.reads_stream
        if outcome.status == "UNIMPLEMENTED" and (is_served_elsewhere or is_miscounted):
            return ""
        is_large = any(len(one) > MESSAGE_BYTES_MAX for one in contents) or manner.metadata_bytes > METADATA_BYTES_MAX
        if outcome.status == "RESOURCE_EXHAUSTED" and is_large:
            return ""
        if outcome.status == "NOT_FOUND" and rpc.service == HEALTH.full_name and _names_service(contents):
            # The health protocol says so of a service that the server does not have.
            return ""
        return "a refusal without a reason"
    try:
        spec = SPECS[Reason(outcome.reason)]
    except ValueError:
        return "a reason that is not in the catalogue"
    if outcome.domain != ERROR_DOMAIN:
        return "a reason of another domain"
    return "" if spec.status == outcome.status else f"a status other than the catalogue's {spec.status}"


def _names_service(contents: list[bytes]) -> bool:
    return bool(health_pb2.HealthCheckRequest.FromString(contents[0]).service)
