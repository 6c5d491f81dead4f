"""The use cases of the registry: create, update, get and list a resource. One method is one transaction.

Every write takes the lock of the own log first, so writes of one registry happen one after the other: what is checked
cannot change before it is committed. A registry sees some hundred writes a day; the hot path is elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic

from services.common.access.divisions import LEVELS_MAX
from services.common.china_time import day_in_china
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.request import request_context
from services.journal.entries import EntryBuilder
from services.journal.log_writer import LogWriter
from services.journal.store import LogHead
from services.registry import convert, forms, kinds, refusals, store
from services.registry.convert import Resource
from services.registry.doubts import Doubts
from services.registry.filters import Filter
from services.registry.forms import Violation
from services.registry.kinds import Kind
from services.registry.projection import prepare
from services.registry.reach import Reach
from services.registry.scope import Scope, own_divisions
from services.registry.store import TABLES, Row
from zhichao.registry.v1 import resources_pb2 as pb

PAGE_SIZE_DEFAULT: Final = 100
"""Resources in one answer when the caller names no number (the contract of every list request)."""

PAGE_SIZE_MAX: Final = 1_000
"""Most resources in one answer (the contract of every list request): half a megabyte of source units."""

UPDATE_ALL: Final = "*"
"""Path of a mask that stands for every field (AIP-134)."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Resource]):
    """One page of a list."""

    resources: list[Resource]
    next_page_token: str


class RegistryHandlers:
    """What RegistryService does."""

    def __init__(self, engine: Engine, writer: LogWriter, clock: Clock, announce: Callable[[str], None]) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._announce = announce

    # Writing

    def create(self, kind: Kind[Resource], message: Resource, *, is_addressed: bool = True) -> Resource:
        """Create a resource of this platform and return it as stored; the same content again returns the stored one.

        A rule set goes down to the platforms that it is meant for, unless told otherwise.

        What it belongs to must be registered here: unit, weighing point, scale. A division need not be: a county may
        register its units in the first week and load code tables later, and codes come and go. The unit carries a
        warning until the division is registered. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE,
        RESOURCE_EXISTS, and REFERENCE_NOT_FOUND.
        """
        self._refuse_violations(kind, message)
        with self._writing() as connection:
            head = self._writer.lock(connection)
            self._reach(connection).refuse_write(kind, message)
            stored = TABLES[kind.resource_type].read(connection, self._writer.origin, kind.key_of(message))
            if stored is not None:
                if not convert.is_same_content(kind.parse(stored.content), message):
                    raise refusals.exists(kind.resource_type, kind.key_of(message), _remedy(kind))
                return self._complete(connection, kind, [stored])[0]
            self._check_references(connection, kind, message)
            self._check_version(connection, message)
            return self._write(connection, head, kind, message, None, self._audience(message) if is_addressed else "")

    def update(self, kind: Kind[Resource], message: Resource, paths: Sequence[str]) -> Resource:
        """Change fields of a resource of this platform and return it as stored; a change of nothing writes nothing.

        `paths` names whole fields; none or `*` means all. An etag in `message.info` must be the current one.
        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, NOT_OWNED, ETAG_MISMATCH, OUTSIDE_SCOPE, REFERENCE_NOT_FOUND.
        """
        key = kind.key_of(message)
        violations = [
            Violation(f"{kind.resource_type}.{field}", description)
            for field, description in _key_violations(kind, dict(zip(kind.key, key, strict=True)))
        ]
        fields, path_violations = _masked_fields(kind, paths)
        if violations or path_violations:
            raise refusals.bad_fields([*violations, *path_violations])
        with self._writing() as connection:
            head = self._writer.lock(connection)
            stored = TABLES[kind.resource_type].read(connection, self._writer.origin, key)
            if stored is None:
                raise self._no_own(connection, kind, key)
            if message.info.etag and message.info.etag != stored.etag:
                raise refusals.etag_mismatch(kind.resource_type, key, message.info.etag, stored.etag)
            before = kind.parse(stored.content)
            after = convert.copy_of(before)
            convert.set_fields(after, message, fields)
            self._reach(connection).refuse_write(kind, after, before)
            if convert.is_same_content(before, after):
                return self._complete(connection, kind, [stored])[0]
            self._refuse_violations(kind, after)
            self._check_references(connection, kind, after)
            return self._write(connection, head, kind, after, convert.times(before)[0])

    # Reading

    def get(self, kind: Kind[Resource], key: Mapping[str, Any], origin: str) -> Resource:
        """Return one resource: of the named owner, or else this platform's, or else the only one that has the id.

        Raises ServiceError NOT_FOUND, OUTSIDE_SCOPE, and INVALID_ARGUMENT naming the candidates when several platforms
        have the id.
        """
        _refuse_bad_key(kind, key, origin)
        with self._reading() as connection:
            found = self._find(connection, kind, key, origin)
            rows = self._reach(connection).refuse_unheld(kind, tuple(key.values()), found)
            if kind is kinds.RULE_SET:
                rows = self._nearest(connection, rows)
            origins = _origins(rows)
            if len(origins) > 1:
                raise refusals.ambiguous(kind.resource_type, key.values(), origins)
            # By id: of several versions of a rule set the last is the newest.
            return self._complete(connection, kind, [rows[-1]])[0]

    def get_division(self, division_code: str, valid_from: str) -> pb.Division:
        """Return one division: of the given first day, or else the one valid today, or else the last.

        Of several owners this platform comes first, then the lowest code: province before city before county. Raises
        ServiceError NOT_FOUND.
        """
        key = {"division_code": division_code} | ({"valid_from": valid_from} if valid_from else {})
        _refuse_bad_key(kinds.DIVISION, key)
        today = day_in_china(self._clock.now())
        with self._reading() as connection:
            rows = self._find(connection, kinds.DIVISION, key)
            candidates = [row for row in rows if row.origin == rows[0].origin]
            valid = [row for row in candidates if _is_valid(kinds.DIVISION.parse(row.content), today)]
            # Ordered by the first day: of two that overlap, the later one is meant to take over.
            return self._complete(connection, kinds.DIVISION, [(valid or candidates)[-1]])[0]

    def get_platform(self, platform_code: str) -> pb.Platform:
        """Return one platform; owners are preferred as with divisions. Raises ServiceError NOT_FOUND."""
        key = {"platform_code": platform_code}
        _refuse_bad_key(kinds.PLATFORM, key)
        with self._reading() as connection:
            rows = self._find(connection, kinds.PLATFORM, key)
            return self._complete(connection, kinds.PLATFORM, [rows[0]])[0]

    def list_page(
        self, kind: Kind[Resource], filters: Sequence[Filter], requested_size: int, page_token: str
    ) -> Page[Resource]:
        """Return one page ordered by id and owner. A resource is on one page only, whatever is created meanwhile.

        Raises ServiceError INVALID_ARGUMENT, INVALID_PAGE_TOKEN.
        """
        violations = [violation for one in filters for violation in one.violations()]
        if violations:
            raise refusals.bad_fields(violations)
        size = page_size(requested_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest(kind.name, *(one.value for one in filters))
        shape = [int if field == "version" else str for field in kind.key]
        after = decode_token(page_token, digest, [*shape, str])
        if after is not None and _key_violations(kind, dict(zip(kind.key, after[:-1], strict=True))):
            # Whoever made the token, no resource has such an id.
            raise refusals.forged_page_token()
        with self._reading() as connection:
            wanted = [one for one in filters if one.is_set]
            restriction = self._reach(connection).restriction(kind)
            rows = TABLES[kind.resource_type].page(connection, wanted, after, size + 1, restriction)
            resources = self._complete(connection, kind, rows[:size])
        next_page_token = ""
        if len(rows) > size:
            last = resources[-1]
            next_page_token = encode_token(digest, (*kind.key_of(last), last.info.origin))
        return Page(resources, next_page_token)

    # Parts of the above

    @contextmanager
    def _writing(self) -> Iterator[RawConnection]:
        with translate_errors(), self._engine.begin() as pooled:
            yield raw_connection(pooled)
        self._announce(self._writer.origin)

    @contextmanager
    def _reading(self) -> Iterator[RawConnection]:
        with translate_errors(), reading(self._engine) as pooled:
            yield raw_connection(pooled)

    def _reach(self, connection: RawConnection) -> Reach:
        day = day_in_china(self._clock.now())
        return Reach(connection, Scope.of(connection, request_context().principal, self._writer.origin, day))

    def _refuse_violations(self, kind: Kind[Resource], message: Resource) -> None:
        violations = kind.examine(message).violations
        if violations:
            raise refusals.bad_fields(violations, f"{kind.resource_type}.")

    def _check_references(self, connection: RawConnection, kind: Kind[Resource], message: Resource) -> None:
        for reference in kind.references:
            key = tuple(getattr(message, field) for field in reference.fields)
            if TABLES[reference.resource_type].read(connection, self._writer.origin, key) is None:
                raise refusals.missing_reference(reference.resource_type, key, self._writer.origin)

    def _check_version(self, connection: RawConnection, message: convert.AnyResource) -> None:
        """Refuse a gap in the versions of a rule set: version 3 says that it replaces version 2."""
        if not isinstance(message, pb.RuleSet):
            return
        expected = store.newest_version(connection, self._writer.origin, message.rule_set_id) + 1
        if message.version != expected:
            description = f"is {message.version}, but versions have no gaps and the next one is {expected}"
            raise refusals.bad_fields([Violation("version", description)], "rule_set.")

    def _audience(self, message: convert.AnyResource) -> str:
        """Return to whom below an entry is addressed: a rule set to its jurisdiction, everything else to nobody."""
        return (message.jurisdiction or self._writer.origin) if isinstance(message, pb.RuleSet) else ""

    def _write(
        self,
        connection: RawConnection,
        head: LogHead,
        kind: Kind[Resource],
        message: Resource,
        create_time: datetime | None,
        audience: str = "",
    ) -> Resource:
        """Append the entry and write its row, both in the caller's transaction."""
        now = self._clock.now()
        request = request_context()
        payload = convert.to_payload(message, create_time or now, now)
        builder = EntryBuilder(kind.name, kinds.SCHEMA, now, request.principal.name, request.request_id, audience)
        added = builder.build(payload, self._writer.digester)
        (place,) = self._writer.append(connection, head, [added], now)
        # The same way as a received entry, so that table and journal cannot disagree.
        row = prepare(kind, payload).at(place.sequence)
        TABLES[kind.resource_type].upsert(connection, place.origin, [row])
        return self._complete(connection, kind, [Row(place.origin, place.sequence, payload)])[0]

    def _no_own(self, connection: RawConnection, kind: Kind[Resource], key: tuple[Any, ...]) -> Exception:
        """Return the refusal of an update of something that this platform does not own."""
        held = TABLES[kind.resource_type].find(connection, dict(zip(kind.key, key, strict=True)))
        if held:
            return refusals.not_owned(kind.resource_type, key, _origins(held))
        return refusals.not_found(kind.resource_type, key)

    def _find(
        self, connection: RawConnection, kind: Kind[Any], key: Mapping[str, Any], origin: str = ""
    ) -> Sequence[Row]:
        """Return what the key, or the first fields of it, names, ordered by owner and id.

        Without an owner it is what this platform has, or else what others have. Raises ServiceError NOT_FOUND.
        """
        table = TABLES[kind.resource_type]
        rows = table.find(connection, key, origin or self._writer.origin)
        if not rows and not origin:
            rows = table.find(connection, key)
        if not rows:
            hint = f" with owner {origin}" if origin else ""
            raise refusals.not_found(kind.resource_type, key.values(), hint)
        return sorted(rows, key=lambda row: row.origin)

    def _nearest(self, connection: RawConnection, rows: Sequence[Row]) -> list[Row]:
        """Return the rule sets of the owner that is nearest above, if one of the owners is above: that one judges."""
        origins = {row.origin for row in rows}
        divisions = own_divisions(connection, self._writer.origin, day_in_china(self._clock.now()))
        code = self._writer.origin
        for _ in range(LEVELS_MAX):
            if code in origins:
                return [row for row in rows if row.origin == code]
            code = divisions.above(code)
        return list(rows)

    def _complete(self, connection: RawConnection, kind: Kind[Resource], rows: Sequence[Row]) -> list[Resource]:
        """Return the resources of rows as they are answered, with owner, etag and warnings."""
        messages = [kind.parse(row.content) for row in rows]
        origins = [row.origin for row in rows]
        day = day_in_china(self._clock.now())
        doubts = Doubts.look_up(connection, kind, list(zip(origins, messages, strict=True)), self._writer.origin, day)
        for row, message in zip(rows, messages, strict=True):
            convert.complete(message, row.origin, row.sequence, row.etag, doubts.of(row.origin, message))
        return messages


def _remedy(kind: Kind[Any]) -> str:
    if kind.resource_type == kinds.RULE_SET.resource_type:
        return "versions never change, publish the next one"
    return "change it with an update"


def _origins(rows: Sequence[Row]) -> list[str]:
    return sorted({row.origin for row in rows})


def _is_valid(division: pb.Division, today: str) -> bool:
    return division.valid_from <= today and (not division.valid_until or division.valid_until > today)


def _key_violations(kind: Kind[Any], key: Mapping[str, Any]) -> list[Violation]:
    found = [Violation(field, kind.key[field](value)) for field, value in key.items()]
    return [violation for violation in found if violation.description]


def _refuse_bad_key(kind: Kind[Any], key: Mapping[str, Any], origin: str = "") -> None:
    violations = _key_violations(kind, key)
    if origin and (description := forms.division_code(origin)):
        violations.append(Violation("origin", description))
    if violations:
        raise refusals.bad_fields(violations)


def _masked_fields(kind: Kind[Any], paths: Sequence[str]) -> tuple[list[str], list[Violation]]:
    """Return the fields that a mask names, and what is wrong with its paths."""
    mutable = kind.mutable_fields()
    if not paths or list(paths) == [UPDATE_ALL]:
        return mutable, []
    violations = []
    for position, path in enumerate(paths):
        if path in mutable:
            continue
        if path in kind.key:
            cause = "is part of the id and cannot be changed"
        elif path == "info" or path.startswith("info."):
            cause = "is set by the registry"
        elif path == UPDATE_ALL:
            cause = "stands for all fields and must be the only path"
        else:
            cause = f"is not a field of {kind.resource_type}; whole fields are: {', '.join(mutable)}"
        violations.append(Violation(f"update_mask.paths[{position}]", f"{path[:64]!r} {cause}"))
    return [field for field in mutable if field in set(paths)], violations
