"""Access records: what a service writes into its own log before it shows what has to be accounted for, and of whom it
has refused; and what every platform above makes of it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf.message import DecodeError, Message

from services.common.access.throttle import source_of
from services.common.access.tokens import metadata_value
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.reasons import Reason
from services.common.refused_attempts import RefusalBook, RefusalSource, RefusedAttempts
from services.common.rpc_call import Call
from services.common.rpc_gate import peer_address
from services.journal.access_attempts import record_of
from services.journal.entries import EntryBuilder, Place, is_platform_code, timestamp
from services.journal.log_writer import LogWriter
from services.journal.projection import Unprojectable
from services.journal.store import access_records as store
from services.journal.store.access_records import AccessRecordRow
from services.journal.store.logs import LogHead
from zhichao.journal.v1 import access_record_pb2 as pb

KIND: Final = "zhichao.journal.v1.AccessRecord"
SCHEMA: Final = 1

PURPOSE_METADATA: Final = "x-purpose"
PURPOSE_CHARACTERS_MAX: Final = 256
"""A sentence."""

SUBJECTS_MAX: Final = 8
SUBJECT_CHARACTERS_MAX: Final = 128
"""No request names more ids than that, and no id is longer than 64 characters."""

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000

_NAMED: Final = ("_id", "_code", "origin", "platform", "issuer", "sequence")
"""Ends of the names of fields that name things. Names, plates and numbers of persons are none of them."""


class AccessRecordKind:
    """Access records as a kind of the journal: one row each."""

    kind = KIND
    schema = SCHEMA

    def prepare(self, origin: str, payload: bytes) -> AccessRecordRow:
        """Parse one payload. Raises Unprojectable."""
        del origin
        try:
            message = pb.AccessRecord.FromString(payload)
            access_time = message.access_time.ToDatetime(tzinfo=UTC)
        except DecodeError as error:
            raise Unprojectable("the payload is not an AccessRecord") from error
        except (ValueError, OverflowError) as error:
            raise Unprojectable("access_time is not a time") from error
        if "\x00" in message.principal:
            raise Unprojectable("principal holds a character that no text has")
        return AccessRecordRow("", 0, access_time, message.principal, payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, AccessRecordRow]]) -> None:
        """Write the rows."""
        store.insert(connection, [row.at(origin, sequence) for sequence, row in prepared])


class AccessRecorder:
    """Writes access records into the own log, each in a transaction of its own, and refused attempts once a minute."""

    def __init__(self, engine: Engine, writer: LogWriter, clock: Clock, announce: Callable[[str], None]) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._announce = announce
        self._refusals = RefusalBook(self.write_refusals, clock)

    def start(self) -> None:
        """Start to write what is refused; the own log has begun."""
        self._refusals.start()

    def stop(self) -> None:
        """Write what was refused and not yet written, and stop."""
        self._refusals.stop()

    def record(
        self, call: Call, request: Message | None, personal_count: int, response: Message | None = None
    ) -> Place:
        """Write down that a caller is about to be shown something, and return where.

        Raises ServiceError when it cannot be written.
        """
        message = pb.AccessRecord(
            principal=call.principal.name,
            method=call.method,
            subjects=subjects_of(_message(request), _message(response)),
            purpose=purpose_of(call.grpc_context.invocation_metadata()),
            personal_data_count=personal_count,
            peer_address=source_of(peer_address(call)),
        )
        return self._write([message], call.principal.name, call.request_id)[0]

    def note_refusal(self, source: RefusalSource, method: str, claimed: str) -> None:
        """Count one refused attempt, to be written down with others."""
        self._refusals.note(source, method, claimed)

    def write_refusals(self, refusals: Sequence[RefusedAttempts]) -> None:
        """Write down refused attempts that were summed up. Raises ServiceError when they cannot be written."""
        self.write([record_of(one) for one in refusals])

    def write(self, messages: Sequence[pb.AccessRecord]) -> None:
        """Write down records that are whole but for their places. Raises ServiceError."""
        self._write(messages, "", "")

    def _write(self, messages: Sequence[pb.AccessRecord], actor: str, request_id: str) -> list[Place]:
        now = self._clock.now()
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            # From here on nobody else adds a record.
            head = self._writer.lock(connection)
            places = append(connection, self._writer, head, messages, now, actor=actor, request_id=request_id)
        self._announce(self._writer.origin)
        return places


def append(
    connection: RawConnection,
    writer: LogWriter,
    head: LogHead,
    messages: Sequence[pb.AccessRecord],
    now: datetime,
    *,
    actor: str,
    request_id: str = "",
) -> list[Place]:
    """Append records that are whole but for their places in the chain, after a head that is locked in this transaction.

    Every access record is written by this: one that is not linked would look like one that was taken out. Raises
    ServiceError as `LogWriter.append` does.
    """
    builder = EntryBuilder(KIND, SCHEMA, now, actor, request_id)
    kind = AccessRecordKind()
    previous = store.newest(connection, writer.origin)
    number, digest = (0, b"") if previous is None else (_number(previous.record), previous.leaf)
    payloads, entries = [], []
    for message in messages:
        number += 1
        message.number, message.previous_leaf_digest = number, digest
        if not message.HasField("access_time"):
            message.access_time.CopyFrom(timestamp(now))
        payloads.append(message.SerializeToString())
        entries.append(builder.build(payloads[-1], writer.digester))
        digest = entries[-1].leaf
    places = writer.append(connection, head, entries, now)
    rows = [
        (place.sequence, kind.prepare(writer.origin, payload)) for place, payload in zip(places, payloads, strict=True)
    ]
    kind.project(connection, writer.origin, rows)
    return places


def _number(record: bytes) -> int:
    return pb.AccessRecord.FromString(record).number


def _message(content: object) -> Message | None:
    # Methods that take their messages apart themselves hand on bytes.
    return content if isinstance(content, Message) else None


class AccessRecordHandlers:
    """What AccessRecordService does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list_page(
        self,
        origin: str,
        principal: str,
        start: datetime | None,
        end: datetime | None,
        requested: int,
        token: str,
    ) -> tuple[list[AccessRecordRow], str]:
        """Return one page of records, newest first, and the next page's token. Raises ServiceError INVALID_ARGUMENT."""
        if origin and not is_platform_code(origin):
            raise invalid([FieldViolation("origin", "must be a six-digit platform code, or empty for all")])
        if start is not None and end is not None and start >= end:
            raise invalid([FieldViolation("end_time", "must be after start_time")])
        if "\x00" in principal:
            raise invalid([FieldViolation("principal", "holds a character that no name has")])
        size = page_size(requested, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListAccessRecords", origin, principal, str(start), str(end))
        key = decode_token(token, digest, (str, str, int))
        after = None if key is None else (_instant(str(key[0])), str(key[1]), int(key[2]))
        with translate_errors(), self._engine.begin() as pooled:
            rows = store.list_rows(raw_connection(pooled), origin, principal, start, end, after, size + 1)
        if len(rows) <= size:
            return rows, ""
        last = rows[size - 1]
        return rows[:size], encode_token(digest, (last.access_time.isoformat(), last.origin, last.sequence))


def purpose_of(metadata: Iterable[Any]) -> str:
    """Return why a caller says that it asks, cut to what is kept; text that is not ASCII comes percent-encoded."""
    # A character is up to four bytes, and a byte is a percent sign and two digits.
    sent = metadata_value(metadata, PURPOSE_METADATA)[: PURPOSE_CHARACTERS_MAX * 12]
    return "".join(one if one.isprintable() else "\ufffd" for one in unquote(sent))[:PURPOSE_CHARACTERS_MAX]


def subjects_of(request: Message | None, response: Message | None = None) -> list[str]:
    """Return what a request names as `field=value`: ids and codes at its top and one level below, and the ids that the
    answer gave to what the request has sent, as to something new.
    """
    found = dict(islice(_named_fields(request, ""), SUBJECTS_MAX)) if request is not None else {}
    if request is not None and response is not None:
        for name, value in islice(_named_fields(response, ""), SUBJECTS_MAX):
            sent, _, field = name.partition(".")
            if sent in request.DESCRIPTOR.fields_by_name and field.endswith("_id"):
                found.setdefault(name, value)
    return [f"{name}={value}"[:SUBJECT_CHARACTERS_MAX] for name, value in islice(found.items(), SUBJECTS_MAX)]


def _named_fields(message: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        if field.is_repeated:
            continue
        if field.message_type is not None:
            if not prefix:
                yield from _named_fields(value, f"{field.name}.")
        elif field.name.endswith(_NAMED):
            yield prefix + field.name, value


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ServiceError(Reason.INVALID_PAGE_TOKEN, "the page token was not made by this list") from error
