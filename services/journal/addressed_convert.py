"""Messages about addressed entries to and from what the journal works with. Pure."""

from collections.abc import Mapping, Sequence

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.refusals import refusal
from services.journal.addressed_batch import (
    STEP_ENTRIES_MAX,
    AddressedBatch,
    AddressedPosition,
    BatchStep,
    ProvenEntry,
)
from services.journal.addressed_reader import HeldAddressed
from services.journal.addressed_receiver import ReceivedAddressed
from services.journal.digests import DIGEST_BYTES
from services.journal.entries import is_platform_code, timestamp
from services.journal.limits import (
    ADDRESSED_BATCH_STEPS_MAX,
    ADDRESSED_ORIGINS_MAX,
    AUDIENCES_MAX,
    PROOF_NODES_MAX,
)
from services.journal.store.addressed import AddressedLog
from services.journal.store.receipts import ReceiptRow
from zhichao.journal.v1 import addressed_pb2 as addressed_pb
from zhichao.journal.v1 import journal_pb2 as pb


def batch_from(message: addressed_pb.AddressedBatch) -> AddressedBatch:
    """Read a batch that arrived.

    Of too many steps, entries or digests only as many are taken as show that they are too many: they are refused by
    `check_batch`, and a message may hold a million of them.
    """
    return AddressedBatch(
        message.origin,
        [
            BatchStep(
                step.previous_size,
                step.checkpoint,
                list(step.consistency_path[: PROOF_NODES_MAX + 1]),
                [
                    ProvenEntry(one.sequence, one.entry, list(one.inclusion_path[: PROOF_NODES_MAX + 1]))
                    for one in step.entries[: STEP_ENTRIES_MAX + 1]
                ],
            )
            for step in message.steps[: ADDRESSED_BATCH_STEPS_MAX + 1]
        ],
    )


def batch_message(batch: AddressedBatch, end_sequence: int) -> addressed_pb.AddressedBatch:
    """Return a batch that was read."""
    return addressed_pb.AddressedBatch(
        origin=batch.origin,
        steps=[
            addressed_pb.AddressedStep(
                previous_size=step.previous_size,
                checkpoint=step.checkpoint,
                consistency_path=step.consistency_path,
                entries=[
                    addressed_pb.AddressedEntry(
                        sequence=one.sequence, entry=one.entry, inclusion_path=one.inclusion_path
                    )
                    for one in step.entries
                ],
            )
            for step in batch.steps
        ],
        end_sequence=end_sequence,
    )


def positions_from(messages: Sequence[addressed_pb.AddressedPosition]) -> list[AddressedPosition]:
    """Read the positions of a reader. Raises ServiceError INVALID_ARGUMENT that names every bad field."""
    if len(messages) > ADDRESSED_ORIGINS_MAX + 1:
        # The own log comes along.
        raise invalid(
            [FieldViolation("positions", f"has {len(messages)} items, more than {ADDRESSED_ORIGINS_MAX + 1}")]
        )
    violations: list[FieldViolation] = []
    origins: set[str] = set()
    for index, message in enumerate(messages):
        field = f"positions[{index}]"
        if not is_platform_code(message.origin):
            violations.append(FieldViolation(f"{field}.origin", "is not a six-digit platform code"))
        if message.origin in origins:
            violations.append(FieldViolation(f"{field}.origin", "is named twice"))
        origins.add(message.origin)
        if message.through_sequence < 0:
            violations.append(FieldViolation(f"{field}.through_sequence", f"is {message.through_sequence}, below 0"))
        if len(message.root) != (DIGEST_BYTES if message.through_sequence else 0):
            violations.append(
                FieldViolation(f"{field}.root", f"has {len(message.root)} bytes, not {DIGEST_BYTES}; none at 0")
            )
        if len(message.audiences) > AUDIENCES_MAX:
            violations.append(
                FieldViolation(f"{field}.audiences", f"has {len(message.audiences)} items, more than {AUDIENCES_MAX}")
            )
    if violations:
        raise invalid(violations)
    return [
        AddressedPosition(
            one.origin, one.through_sequence, one.root, {count.audience: count.count for count in one.audiences}
        )
        for one in messages
    ]


def held_message(held: HeldAddressed, stream: str) -> addressed_pb.AddressedPosition:
    """Return where the addressed entries of one log stand here."""
    message = _position(held.position, stream, held.log)
    message.audiences.extend(
        addressed_pb.AudienceCount(audience=audience, count=count)
        for audience, count in sorted(held.position.counts.items())
    )
    message.parked_count = held.parked_count
    message.is_own = held.log is None
    return message


def append_response(received: ReceivedAddressed, stream: str) -> pb.AppendAddressedEntriesResponse:
    """Return the answer to a received batch."""
    log = received.log
    position = _position(AddressedPosition(log.origin, log.through_sequence, log.root, {}), stream, log)
    position.parked_count = received.log_parked_count
    return pb.AppendAddressedEntriesResponse(
        position=position, duplicate_count=received.duplicate_count, parked_count=received.parked_count
    )


def refusal_message(origin: str, error: ServiceError) -> addressed_pb.AddressedRefusal:
    """Return why nothing of a log is sent."""
    return addressed_pb.AddressedRefusal(origin=origin, refusal=refusal(error))


def ends_message(ends: Mapping[str, int]) -> addressed_pb.AddressedEnds:
    """Return the newest steps of logs."""
    return addressed_pb.AddressedEnds(
        ends=[addressed_pb.AddressedEnd(origin=origin, end_sequence=end) for origin, end in sorted(ends.items())]
    )


def receipt_message(row: ReceiptRow) -> pb.ReceivedAddressedEntry:
    """Return who has received an entry."""
    return pb.ReceivedAddressedEntry(
        origin=row.origin,
        sequence=row.sequence,
        platform=row.platform,
        receive_time=timestamp(row.receive_time),
        receipt_sequence=row.receipt_sequence,
    )


def _position(position: AddressedPosition, stream: str, log: AddressedLog | None) -> addressed_pb.AddressedPosition:
    received = log.last_receive_time if log is not None else None
    return addressed_pb.AddressedPosition(
        origin=position.origin,
        stream=stream,
        through_sequence=position.through_sequence,
        root=position.root,
        last_receive_time=timestamp(received) if received is not None else None,
    )
