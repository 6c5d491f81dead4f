"""Who calls."""

from services.common.access.principal import Principal, service_principal
from services.common.request import request_context


def caller(platform: str) -> Principal:
    """Return the principal of the call that is served."""
    principal: object = request_context().principal
    return principal if isinstance(principal, Principal) else service_principal(platform, "registry")
