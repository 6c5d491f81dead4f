"""A service's keeping of the registry's word on access, and what the registry says to it."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.common.access.control import AccessControl
from services.common.access.keeping import StatementKeeper
from services.common.access.knowledge import AccessKnowledge
from services.common.access.statement import StoredStatement
from services.common.access.store import AccessStore
from services.common.access.tokens import ServiceTokens, bearer, digest, format_token
from services.common.database import Engine
from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.common.clocks import NOON, SetClock
from tests.common.served import WAIT_SECONDS
from zhichao.access.v1 import credential_pb2, service_pb2

PLATFORM = "141025"
STALE_SECONDS = 3600.0


class CountedStore(AccessStore):
    """The store, which also notes what it was asked to write."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.whole: list[StoredStatement] = []
        self.times: list[datetime] = []

    def write(self, stored: StoredStatement) -> None:
        super().write(stored)
        self.whole.append(stored)

    def set_as_of(self, stored: StoredStatement) -> bool:
        is_set = super().set_as_of(stored)
        self.times.append(stored.as_of)
        return is_set


class Keeping:
    """The keeper of one start of a service, with what the service knows by it."""

    def __init__(self, engine: Engine, token_file: Path, clock: SetClock, platform: str = PLATFORM) -> None:
        self.store = CountedStore(engine)
        self.clock = clock
        self.knowledge = AccessKnowledge(clock.monotonic)
        self.control = AccessControl(platform, self.knowledge, None, clock, stale_seconds=STALE_SECONDS)
        self.keeper = StatementKeeper(
            self.store, platform, ServiceTokens(token_file), clock, stale_seconds=STALE_SECONDS
        )
        self.keeper.start(self.knowledge)

    def hear(self, message: service_pb2.WatchAccessResponse) -> None:
        self.keeper.take(message)

    def written(self, as_of: datetime) -> None:
        """Wait until what was complete then is in the database."""
        ends_at = time.monotonic() + WAIT_SECONDS
        while (row := self.store.read(PLATFORM)) is None or row.as_of != as_of:
            assert time.monotonic() < ends_at, "in vain"
            threading.Event().wait(0.005)

    def reason(self, token: str) -> Reason | None:
        """Return why a token is refused; None when it is accepted."""
        try:
            self.control.caller_of_metadata(bearer(token))
        except ServiceError as error:
            return error.reason
        return None


Start = Callable[[], Keeping]

SECRET = "A" * 43
TOKEN = format_token("t-1", SECRET)


def credential(credential_id: str = "t-1", secret: str = SECRET, **fields: Any) -> credential_pb2.Credential:
    found = credential_pb2.Credential(
        credential_id=credential_id,
        kind=credential_pb2.PRINCIPAL_KIND_TERMINAL,
        display_name="示例甲的终端",
        source_unit_ids=["141025-001"],
        etag="141025-9",
        revoke_reason="甲说遗失",
        **fields,
    )
    found.expire_time.FromDatetime(NOON + timedelta(days=30))
    found.secrets.add(digest=digest(secret)).expire_time.FromDatetime(NOON + timedelta(days=30))
    return found


def revoked(credential_id: str = "t-1") -> credential_pb2.Credential:
    found = credential(credential_id)
    found.revoke_time.FromDatetime(NOON)
    return found


def said(
    as_of: datetime,
    *credentials: credential_pb2.Credential,
    is_restart: bool = False,
    is_complete: bool = True,
    **fields: Any,
) -> service_pb2.WatchAccessResponse:
    message = service_pb2.WatchAccessResponse(
        is_restart=is_restart, is_complete=is_complete, credentials=credentials, **fields
    )
    message.as_of_time.FromDatetime(as_of)
    return message


def everything(as_of: datetime, *credentials: credential_pb2.Credential) -> service_pb2.WatchAccessResponse:
    return said(
        as_of,
        *(credentials or (credential(),)),
        is_restart=True,
        platforms=[service_pb2.PlatformStanding(platform_code="141026", upstream_code="141025")],
        divisions=[service_pb2.DivisionStanding(division_code="140671", parent_code="141026")],
    )


def keep(start: Start, *messages: service_pb2.WatchAccessResponse) -> Keeping:
    """Let a service hear something, and stop it once that is kept."""
    service = start()
    for message in messages:
        service.hear(message)
    service.keeper.stop()
    return service
