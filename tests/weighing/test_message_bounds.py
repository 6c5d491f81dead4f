"""What a message makes of few bytes is bounded: nobody fills the memory of the service with empty records or axles."""

import subprocess
import sys
from datetime import timedelta

import pytest

from services.common.access.divisions import Divisions
from services.common.access.permissions import PrincipalKind
from services.common.access.principal import Principal, service_principal
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.digests import Digester
from services.weighing.bounds import UNBOUND, Bounds
from services.weighing.directory import Directory
from services.weighing.preparing import RecordPreparer
from tests.registry.harness import START
from tests.weighing.records import record

MEGABYTE = 1024 * 1024

PREPARE = """
import resource
from services.common.clock import SystemClock
from services.common.errors import ServiceError
from services.journal.digests import Digester
from services.weighing.batches import BatchPreparer
from services.weighing.directory import Directory
from services.weighing.preparing import RecordPreparer
from tests.wire import field

preparer = BatchPreparer(
    RecordPreparer(Digester("sha256"), Directory("order-62-2016", "141025"), lambda: False), [], SystemClock()
)
content = %s
assert 8_000_000 < len(content) <= 16 * 1024 * 1024, len(content)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(preparer.prepare(content, "terminal/t", "request").refusals))
except ServiceError as refusal:
    print(refusal.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        ('b"\\x0a\\x00" * (8 * 1024 * 1024)', "BATCH_TOO_LARGE"),
        # 1,000 records of the largest size, each with some 4,000 empty axles.
        ('field(1, field(12, b"\\x1a\\x00" * 4_090)) * 1_000', "1000"),
        # One record with all of them: not even looked at.
        ('field(1, field(12, b"\\x1a\\x00" * 8_000_000))', "1"),
        ('b"\\x12\\x00" * (8 * 1024 * 1024)', "MALFORMED_MESSAGE"),
    ],
)
def test_memory_stays_bounded(content: str, outcome: str) -> None:
    # In a process of its own: the largest size that a process ever had is known only as a whole.
    program = [sys.executable, "-c", PREPARE % content]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    came_out, grown = done.stdout.split()

    assert came_out == outcome
    # Mostly slices of the message itself.
    assert int(grown) <= 32 * MEGABYTE


# Whose records


TERMINAL = Principal(PrincipalKind.TERMINAL, "t1", frozenset(), frozenset({"141025-001", "141025-002"}))


def steward(division: str) -> Principal:
    return Principal(PrincipalKind.PERSON, "p1", frozenset(), division_code=division)


def test_a_caller_of_the_whole_platform_is_not_bound() -> None:
    divisions = Divisions()

    assert not Bounds.of(steward("141025"), "141025", divisions).division_code
    assert not Bounds.of(steward("140000"), "141025", divisions).division_code
    assert Bounds.of(service_principal("141025", "test"), "141025", divisions).source_unit_ids is None
    assert Bounds.of(steward("141025"), "141000", divisions).division_code == "141025"


def test_a_unit_lies_within_a_division_or_is_refused() -> None:
    bounds = Bounds.of(steward("141025"), "141000", Divisions({"141099": "141025"}))
    bounds.check_division("u", "141099")
    bounds.check_division("u", "141025")
    with pytest.raises(ServiceError) as refused:
        bounds.check_division("u", "141026")

    assert (refused.value.reason, dict(refused.value.metadata)) == (
        Reason.OUTSIDE_SCOPE,
        {"field": "record.source_unit_id"},
    )


def test_only_records_of_the_caller_s_units_go_on() -> None:
    preparer = RecordPreparer(Digester("sha256"), Directory("order-62-2016", "141025"), lambda: True)
    batch = [record("r-1"), record("r-2", source_unit_id="141025-009"), record("", source_unit_id="141025-009")]
    contents = [one.SerializeToString() for one in batch]
    bounds = Bounds.of(TERMINAL, "141025", Divisions())

    def reasons(of: Bounds) -> list[tuple[str, Reason]]:
        prepared = preparer.prepare(contents, START + timedelta(seconds=1), "terminal/t1", "request", of)
        return [(one.record_id, one.error.reason) for one in prepared.refusals.values()]

    # The directory is empty: what goes on ends there.
    assert reasons(bounds) == [
        ("r-1", Reason.UNKNOWN_SOURCE_UNIT),
        ("r-2", Reason.OUTSIDE_SCOPE),
        ("", Reason.OUTSIDE_SCOPE),
    ]
    assert reasons(UNBOUND) == [
        ("r-1", Reason.UNKNOWN_SOURCE_UNIT),
        ("r-2", Reason.UNKNOWN_SOURCE_UNIT),
        ("", Reason.INVALID_ARGUMENT),
    ]


def test_a_refused_record_is_gone_also_when_the_registry_cannot_be_asked() -> None:
    preparer = RecordPreparer(Digester("sha256"), Directory("order-62-2016", "141025"), lambda: False)
    content = [record().SerializeToString()]
    error: BaseException | None = preparer.prepare(content, START, "terminal/t", "request").refusals[0].error
    assert error is not None
    assert error.__cause__ is not None
    while error is not None:
        # A traceback holds the frames that it went through, and the parsed record with them.
        assert error.__traceback__ is None
        error = error.__cause__
