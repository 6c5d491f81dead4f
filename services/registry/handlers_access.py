"""What people and services ask about access: credentials, who they are themselves, and what was used when. One method
is one transaction.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.common.access.permissions import PrincipalKind
from services.common.access.principal import Principal
from services.common.china_time import day_in_china
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.request import request_context
from services.registry import bindings, convert_access, forms, refusals
from services.registry.forms import Violation
from services.registry.scope import Scope
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import CredentialFilter, CredentialRow
from zhichao.access.v1 import credential_pb2 as pb

PAGE_SIZE_DEFAULT: Final = 100
"""Credentials in one answer when the caller names no number (the contract)."""

PAGE_SIZE_MAX: Final = 1_000
"""Most credentials in one answer (the contract)."""

USES_MAX: Final = 10_000
"""Uses in one report (the contract): twice the credentials of a large province's platform."""


@dataclass(frozen=True, slots=True)
class CredentialPage:
    """One page of a list."""

    credentials: list[pb.Credential]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and when their credential ends."""

    platform: str
    principal: Principal
    expire_time: datetime | None


class AccessHandlers:
    """What AccessService answers without changing anything that anybody decided."""

    def __init__(self, engine: Engine, platform: str, clock: Clock) -> None:
        self._engine = engine
        self._platform = platform
        self._clock = clock

    def get(self, credential_id: str, origin: str) -> pb.Credential:
        """Return one credential of this platform, or a copy of another's.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, OUTSIDE_SCOPE.
        """
        refusals.refuse_bad(
            [
                Violation("credential_id", forms.credential_id(credential_id)),
                Violation("origin", forms.optional(forms.division_code)(origin)),
            ]
        )
        with self._reading() as connection:
            row = credential_store.read(connection, origin or self._platform, credential_id)
            if row is None:
                raise refusals.not_found(convert_access.RESOURCE_TYPE, [credential_id], _hint(origin))
            scope = self._scope(connection, self._clock.now())
            if not bindings.held(connection, scope, [row]):
                raise refusals.outside_scope("credential_id", credential_id, scope.described)
        return convert_access.shown(row.content, row.origin, row.etag, row.last_use_time)

    def list_page(
        self, wanted: CredentialFilter, requested_size: int, page_token: str, *, includes_ended: bool
    ) -> CredentialPage:
        """Return one page ordered by id, of what lies within the caller's bounds.

        Raises ServiceError INVALID_ARGUMENT, INVALID_PAGE_TOKEN.
        """
        refusals.refuse_bad(
            [
                Violation("source_unit_id", forms.optional(forms.identifier)(wanted.source_unit_id)),
                Violation("origin", forms.optional(forms.division_code)(wanted.origin)),
            ]
        )
        size = page_size(requested_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest(
            convert_access.KIND, wanted.origin, wanted.kind, wanted.source_unit_id, wanted.role, includes_ended
        )
        key = decode_token(page_token, digest, [str])
        after = str(key[0]) if key else None
        now = self._clock.now()
        wanted = replace(wanted, origin=wanted.origin or self._platform, live_at=None if includes_ended else now)
        found: list[CredentialRow] = []
        with self._reading() as connection:
            scope = self._scope(connection, now)
            is_more = True
            while is_more and len(found) <= size:
                rows = credential_store.page(connection, wanted, after, size + 1)
                found += bindings.held(connection, scope, rows)
                is_more = len(rows) > size
                after = _id_of(rows[-1]) if rows else after
        shown = [convert_access.shown(row.content, row.origin, row.etag, row.last_use_time) for row in found[:size]]
        is_last = len(found) <= size
        return CredentialPage(shown, "" if is_last else encode_token(digest, [shown[-1].credential_id]))

    def identity(self) -> Identity:
        """Return who calls. Raises ServiceError DATABASE_UNAVAILABLE."""
        principal = request_context().principal
        expire_time = None
        if principal.kind in (PrincipalKind.TERMINAL, PrincipalKind.INTEGRATOR, PrincipalKind.PERSON):
            with self._reading() as connection:
                row = credential_store.read(connection, self._platform, principal.id)
            if row is not None:
                expire_time = convert_access.stored(pb.Credential.FromString(row.content)).expire_time
        return Identity(self._platform, principal, expire_time)

    # Observing

    def report_use(self, uses: Mapping[str, datetime], count: int) -> None:
        """Keep when credentials were used last, to the minute; not later than now, whatever a service's clock says.

        Raises ServiceError BATCH_TOO_LARGE.
        """
        if count > USES_MAX:
            raise refusals.too_many_uses(count, USES_MAX)
        now = self._clock.now()
        known = {
            credential_id: min(used, now).replace(second=0, microsecond=0)
            for credential_id, used in uses.items()
            if not forms.credential_id(credential_id)
        }
        if known:
            with translate_errors(), self._engine.begin() as pooled:
                credential_store.record_uses(raw_connection(pooled), self._platform, known)

    # Parts of the above

    @contextmanager
    def _reading(self) -> Iterator[RawConnection]:
        with translate_errors(), reading(self._engine) as pooled:
            yield raw_connection(pooled)

    def _scope(self, connection: RawConnection, now: datetime) -> Scope:
        return Scope.of(connection, request_context().principal, self._platform, day_in_china(now))


def _id_of(row: CredentialRow) -> str:
    return pb.Credential.FromString(row.content).credential_id


def _hint(origin: str) -> str:
    return f" with issuer {origin}" if origin else ""
