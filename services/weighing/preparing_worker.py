"""A process that prepares batches for the weighing service: `python -m services.weighing.preparing_worker FD …`.

It holds no connection, no key and no secret: batches come in over a socket that it inherits, what is written of them
goes back. It ends when that socket does, or when nothing came for a while.
"""

import contextlib
import gc
import marshal
import pickle
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Final

from services.common.errors import ServiceError
from services.common.wire import MalformedMessage
from services.journal.digests import Digester
from services.weighing.bounds import Bounds
from services.weighing.directory import Directory
from services.weighing.preparing import BATCH_RECORDS_MAX, RecordPreparer, records_of

IDLE_SECONDS: Final = 300.0
"""How long the process waits for work before it ends: backlogs come after an outage, and the memory is free between."""

COLLECT_AFTER_OBJECTS: Final = 100_000
"""New objects between two looks for garbage; next to nothing of a batch refers to itself."""

DIRECTORY: Final = 0
"""First part of a message that holds changes of the directory, pickled."""

BATCH: Final = 1
"""First part of a message that holds a serialised batch request, its time, actor, request id and the sender's units."""


def send(connection: Connection, message: Any) -> None:
    """Send a message of plain values."""
    # An object that occurs often, as the judgement of lawful trucks of one kind does, travels once.
    connection.send_bytes(marshal.dumps(message))


def receive(connection: Connection) -> Any:
    """Return the next message. Raises EOFError when the other side is gone."""
    content = connection.recv_bytes()
    return marshal.loads(content)  # noqa: S302 - over a socket that only our own parent or child has


def serve(connection: Connection, digest_algorithm: str, rule_set_id_default: str, platform: str) -> None:
    """Answer until the other side closes the connection or says nothing for long."""
    directory = Directory(rule_set_id_default, platform)
    preparer = RecordPreparer(Digester(digest_algorithm), directory, lambda: False)
    send(connection, True)
    while connection.poll(IDLE_SECONDS):
        kind, content, *rest = receive(connection)
        if kind == DIRECTORY:
            for changed in pickle.loads(content):  # noqa: S301 - from our own parent
                directory.put(changed)
        else:
            number, *request = rest
            # The number ties the answer to its question: another batch's records must never be taken for this one's.
            send(connection, (number, _prepare(preparer, content, *request)))


def _prepare(
    preparer: RecordPreparer, content: bytes, now: str, actor: str, request_id: str, units: frozenset[str] | None
) -> tuple[list[int], Sequence[list[Any]]] | None:
    try:
        records = records_of(content)
        if not 0 < len(records) <= BATCH_RECORDS_MAX:
            # Refused by the service.
            return None
        batch, refusals = preparer.prepare(records, datetime.fromisoformat(now), actor, request_id, Bounds(units))
    except (MalformedMessage, ServiceError):
        # As above: the service looks at it itself.
        return None
    return list(refusals), batch.columns()


def main(arguments: Sequence[str]) -> int:
    """Serve on an inherited socket; 0 when it was closed or silent for long."""
    # The service ends us by closing the socket; signals to its whole group are its own business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    with contextlib.suppress(EOFError, ConnectionError), Connection(int(arguments[0])) as connection:
        serve(connection, *arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
