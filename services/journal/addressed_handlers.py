"""The use cases around addressed entries: one method each, free of gRPC types but for the messages that travel as they
are.
"""

from collections.abc import Callable, Iterator, Sequence

from services.common.access.divisions import Divisions
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.reasons import Reason
from services.common.request import RequestContext, request_context
from services.journal import addressed_convert as convert
from services.journal.addressed_batch import AddressedBatch, AddressedPosition
from services.journal.addressed_reader import AddressedReader, Cursor, HeldAddressed
from services.journal.addressed_receiver import AddressedReceiver, ReceivedAddressed
from services.journal.entries import is_platform_code
from services.journal.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.journal.notes import SIZE_MAX
from services.journal.store import receipts
from services.journal.store.addressed import ADDRESSED
from services.journal.store.receipts import ReceiptRow
from services.journal.store.tail import Tail
from zhichao.journal.v1 import journal_pb2 as pb

CurrentDivisions = Callable[[], Divisions]
"""Returns which division lies below which, the same object until that changes. Raises ServiceError ACCESS_UNKNOWN while
it is not known: what was sent to the wrong platform cannot be taken back."""


class AddressedHandlers:
    """What JournalService does with addressed entries, over the logs of one service."""

    def __init__(
        self,
        engine: Engine,
        reader: AddressedReader,
        receiver: AddressedReceiver,
        tail: Tail,
        divisions: CurrentDivisions,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._receiver = receiver
        self._tail = tail
        self._divisions = divisions

    @property
    def stream(self) -> str:
        """The service whose journal this is."""
        return self._reader.stream

    def read(
        self, platform: str, positions: Sequence[AddressedPosition], *, follow: bool
    ) -> Iterator[pb.ReadAddressedEntriesResponse]:
        """Yield what is addressed to a platform and to those below it, to the end of what is held, or on and on.

        A log that cannot be read on is refused, and the others go on. Raises ServiceError INVALID_ARGUMENT for what is
        no platform code, and ACCESS_UNKNOWN.
        """
        if not is_platform_code(platform):
            raise invalid([FieldViolation("platform", "is not a six-digit platform code")])
        reading = _Reading(self._reader, platform, positions)
        request = request_context()
        if follow:
            request.on_end(self._tail.wake)
        seen: int | None = None
        divisions: Divisions | None = None
        while request.is_active():
            # Counted before the look, so that nothing which comes during it is missed.
            was_seen, seen = seen, self._tail.count(ADDRESSED)
            was, divisions = divisions, self._divisions()
            if seen != was_seen or divisions is not was:
                yield from reading.run(divisions, request)
            if not follow:
                return
            self._tail.wait(ADDRESSED, seen, request.is_active)

    def receive(self, batch: AddressedBatch) -> ReceivedAddressed:
        """Append a batch of an upper platform's log."""
        return self._receiver.receive(batch)

    def positions(self, origin: str | None) -> list[HeldAddressed]:
        """Return where the addressed entries of every log, or of one, stand here."""
        return [held for held in self._reader.held() if origin is None or held.position.origin == origin]

    def list_receipts(
        self, origin: str, first: int, last: int, platform: str | None, requested: int, token: str
    ) -> tuple[list[ReceiptRow], str]:
        """Return one page of who has received which entries, and the next page's token. `last` 0 is the log's end.

        Raises ServiceError INVALID_ARGUMENT.
        """
        violations = [
            FieldViolation(name, "is not a six-digit platform code")
            for name, code in (("origin", origin), ("platform", platform))
            if code and not is_platform_code(code)
        ]
        violations += [
            FieldViolation(name, f"is {value}, below 0")
            for name, value in (("first_sequence", first), ("last_sequence", last))
            if value < 0
        ]
        if violations:
            raise invalid(violations)
        origin = origin or self._reader.own_origin
        size = page_size(requested, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListAddressedReceipts", origin, first, last, platform)
        key = decode_token(token, digest, (int, str))
        after = (int(key[0]), str(key[1])) if key else (0, "")
        with translate_errors(), self._engine.begin() as pooled:
            rows = receipts.list_range(
                raw_connection(pooled), origin, first, last or SIZE_MAX, platform, after, size + 1
            )
        if len(rows) <= size:
            return rows, ""
        return rows[:size], encode_token(digest, (rows[size - 1].sequence, rows[size - 1].platform))


class _Reading:
    """One reader's way through all logs that are meant for it."""

    def __init__(self, reader: AddressedReader, platform: str, positions: Sequence[AddressedPosition]) -> None:
        self._reader = reader
        self._platform = platform
        self._positions = {position.origin: position for position in positions}
        self._cursors: dict[str, Cursor] = {}
        self._refused: set[str] = set()
        self._is_begun = False

    def run(self, divisions: Divisions, request: RequestContext) -> Iterator[pb.ReadAddressedEntriesResponse]:
        """Yield everything that is held and not sent, in turns between the logs, and then how far they go."""
        ends = self._ends(divisions)
        has_sent = False
        waiting = [self._cursor(origin) for origin in ends if origin not in self._refused]
        while waiting:
            for cursor in list(waiting):
                origin = cursor.position.origin
                try:
                    batch = self._reader.read(cursor, self._platform, divisions)
                except ServiceError as error:
                    if error.reason not in (Reason.BEYOND_LOG, Reason.HISTORY_MISMATCH):
                        raise
                    self._refused.add(origin)
                    waiting.remove(cursor)
                    yield pb.ReadAddressedEntriesResponse(refusal=convert.refusal_message(origin, error))
                    continue
                if batch is None:
                    waiting.remove(cursor)
                    continue
                has_sent = True
                end = max(ends[origin], cursor.through_sequence)
                yield pb.ReadAddressedEntriesResponse(batch=convert.batch_message(batch, end))
                if not request.is_active():
                    return
        if has_sent or not self._is_begun:
            self._is_begun = True
            sent = {
                origin: max(end, self._cursors[origin].through_sequence)
                for origin, end in ends.items()
                if origin not in self._refused
            }
            yield pb.ReadAddressedEntriesResponse(ends=convert.ends_message(sent))

    def _ends(self, divisions: Divisions) -> dict[str, int]:
        """Return the newest steps of the logs that the reader may be sent: none of its own or from below it.

        A reader that is this platform itself is sent what came from above. Our own log is looked at also when it
        addresses nothing and the reader has received something of it: we were restored from a backup.
        """
        own = self._reader.own_origin
        ends = self._reader.ends()
        if own in self._positions:
            ends.setdefault(own, 0)
        return {origin: end for origin, end in ends.items() if not divisions.is_within(origin, self._platform)}

    def _cursor(self, origin: str) -> Cursor:
        cursor = self._cursors.get(origin)
        if cursor is None:
            position = self._positions.get(origin) or AddressedPosition(origin, 0, b"", {})
            cursor = self._cursors[origin] = Cursor(position)
        cursor.is_changed = True
        return cursor
