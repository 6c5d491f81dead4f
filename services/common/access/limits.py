"""What one principal may send to one service unless its credential says otherwise. Each says where it comes from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.common.access.permissions import PrincipalKind
from services.common.access.principal import UNLIMITED, CallLimits

_MIB: Final = 1024 * 1024

KIND_LIMITS: Final[Mapping[PrincipalKind, CallLimits]] = MappingProxyType(
    {
        # A busy gate weighs three trucks a minute, each with some calls. A backlog of days comes in streams of 500
        # records a message, which 4 MiB a second let through at some 10,000 records a second.
        PrincipalKind.TERMINAL: CallLimits(20, 200, 4 * _MIB),
        # A firm with 1,000 units and all their terminals behind one token.
        PrincipalKind.INTEGRATOR: CallLimits(500, 2_000, 64 * _MIB),
        # A person at a screen, or a script that pages through a month.
        PrincipalKind.PERSON: CallLimits(50, 500, 16 * _MIB),
        PrincipalKind.PLATFORM: UNLIMITED,
        PrincipalKind.SERVICE: UNLIMITED,
    }
)
"""By kind. Platforms and services are bounded by windows: every push is answered before the next ones are taken."""


STREAMS_MAX: Final[Mapping[PrincipalKind, int]] = MappingProxyType(
    {
        # One for the backlog, one for what is weighed now, a watch, and more that have broken and are not noticed yet.
        PrincipalKind.TERMINAL: 8,
        # Half of what a service has by default (ServiceSettings.streams_max): nobody keeps all others out.
        PrincipalKind.INTEGRATOR: 256,
        # Some screens with some watches each.
        PrincipalKind.PERSON: 32,
        # Four pushes, a follow of each stream (eight) and of cosignatures, own entries that are read back; more for a
        # second relay, and for those that have broken and are not noticed yet. Each holds a stream of a service of this
        # platform as well, which is there for terminals too.
        PrincipalKind.PLATFORM: 64,
    }
)
"""Streams that one principal may have open at one service; those of other kinds are not bounded."""


UNARY_CALLS_MAX: Final[Mapping[PrincipalKind, int]] = MappingProxyType(
    {
        # A gate with some lanes makes one call a truck; each that has not sent its message yet holds a thread.
        PrincipalKind.TERMINAL: 16,
        # A quarter of what a server has (services.common.rpc_limits.UNARY_CALLS_MAX).
        PrincipalKind.INTEGRATOR: 256,
        # A screen with some panels, or a script with some threads.
        PrincipalKind.PERSON: 32,
    }
)
"""Unary calls that one principal may have open at one server; those of other kinds are not bounded."""


def limits_of(kind: PrincipalKind, calls_per_second: int, burst_calls: int, bytes_per_second: int) -> CallLimits:
    """Return the limits of a principal whose credential names some; 0 means the default of its kind."""
    default = KIND_LIMITS[kind]
    return CallLimits(
        calls_per_second or default.calls_per_second,
        burst_calls or default.burst_calls,
        bytes_per_second or default.bytes_per_second,
    )
