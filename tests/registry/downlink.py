"""What relays do with registries, without relays: a test carries down whatever an upper one has addressed."""

from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.journal.v1 import journal_pb2 as journal


def carry_down(upper: RunningRegistry, lower: RunningRegistry) -> int:
    """Do what the relays do: hand everything addressed to the lower platform over; return how many entries came."""
    positions = lower.journal.ListAddressedPositions(
        journal.ListAddressedPositionsRequest(), timeout=TIMEOUT_SECONDS
    ).positions
    request = journal.ReadAddressedEntriesRequest(platform=lower.platform, positions=positions)
    count = 0
    for answer in upper.journal.ReadAddressedEntries(request, timeout=TIMEOUT_SECONDS):
        if answer.WhichOneof("content") != "batch":
            continue
        append = journal.AppendAddressedEntriesRequest(batch=answer.batch)
        taken = lower.journal.AppendAddressedEntries(append, timeout=TIMEOUT_SECONDS)
        assert taken.parked_count == 0
        count += sum(entry.sequence > 1 for step in answer.batch.steps for entry in step.entries)
    return count
