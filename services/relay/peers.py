"""The platforms below, held to their place: who calls is said by the certificate, what lies below them by the registry
of this platform. Pure.
"""

from collections.abc import Callable

from services.common.access.divisions import Divisions
from services.common.errors import ServiceError
from services.common.reasons import Reason


class Peers:
    """What a platform below may push and see. `divisions` returns what the registry has said last."""

    def __init__(self, platform: str, divisions: Callable[[], Divisions]) -> None:
        self._platform = platform
        self._divisions = divisions

    def covers(self, peer: str, origin: str) -> bool:
        """Tell whether an origin is the platform below itself or lies below it, and below this one."""
        divisions = self._divisions()
        return (
            origin != self._platform
            and divisions.is_within(origin, peer)
            and divisions.is_within(origin, self._platform)
        )

    def check_handshake(self, peer: str, platform: str) -> None:
        """Refuse a handshake in another platform's name. Raises ServiceError OUTSIDE_SCOPE."""
        if platform != peer:
            raise ServiceError(
                Reason.OUTSIDE_SCOPE,
                f"platform: the certificate is that of {peer}, the handshake names {platform[:64]!r}: compare "
                "ZHICHAO_PLATFORM with the certificate",
                message_zh=f"证书属于平台 {peer}，与握手声明的平台不一致",
                metadata={"field": "platform"},
            )

    def check_origin(self, peer: str, origin: str) -> None:
        """Refuse a log that the platform below may not push. Raises ServiceError ORIGIN_NOT_ALLOWED."""
        if origin == self._platform:
            raise _not_allowed(
                origin,
                f"{origin} is this platform itself; its log is written here and nowhere else",
                f"{origin} 是本平台自身，其日志只在本平台写入",
            )
        if not self.covers(peer, origin):
            named = repr(origin[:64])
            below = peer if peer != origin else self._platform
            raise _not_allowed(
                origin,
                f"{named} does not lie below {below} by the divisions that {self._platform} has recorded: record it "
                "there (zhichao division register)",
                f"按 {self._platform} 登记的区划，{named} 不在 {below} 之下，请在该平台登记区划",
            )


def _not_allowed(origin: str, message: str, message_zh: str) -> ServiceError:
    return ServiceError(Reason.ORIGIN_NOT_ALLOWED, message, message_zh=message_zh, metadata={"origin": origin[:64]})
