"""One weighing per record id for ever: resends get the first answer, other content is refused and kept as evidence."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.harness import RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing, locked_head, reason_of, register_site
from tests.weighing.records import UNIT, record, records, tagged
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import weighing_pb2
from zhichao.weighing.v1.record_pb2 import WeighingRecord

# Resends


def test_the_same_record_gets_the_first_answer_again(weighing: RunningWeighing) -> None:
    first = weighing.record(record(gross_weight_kg=38_000))
    again = weighing.record(record(gross_weight_kg=38_000))
    assert again == pb.Recorded(receipt=first.receipt, judgement=first.judgement, is_duplicate=True)
    assert weighing.position().size == first.receipt.sequence


def test_a_resend_that_says_backfill_is_the_same_record(weighing: RunningWeighing) -> None:
    first = weighing.record(record())
    again = weighing.record(record(is_backfill=True))
    assert (again.receipt, again.is_duplicate) == (first.receipt, True)
    (held,) = weighing.list_all()
    assert not held.weighing.record.is_backfill


def test_a_resend_after_a_restart_gets_the_first_answer(weighing: RunningWeighing) -> None:
    first = weighing.record(record())
    weighing.stop()
    weighing.start()
    again = weighing.record(record())
    assert (again.receipt, again.judgement, again.is_duplicate) == (first.receipt, first.judgement, True)


def test_a_resend_is_answered_as_judged_then_though_the_rules_have_changed(
    weighing: RunningWeighing, registry: RunningRegistry
) -> None:
    register_site(registry, "u-renamed-rules")
    sent = record(source_unit_id="u-renamed-rules", gross_weight_kg=25_049)
    first = weighing.record(sent)
    weighing.stop()
    weighing.environment["ZHICHAO_WEIGHING_RULE_SET_ID"] = "chart-2016"
    weighing.start()
    assert weighing.record(sent).judgement == first.judgement
    assert weighing.record(record("other", source_unit_id="u-renamed-rules")).judgement.rule_set_id == "chart-2016"


def test_the_same_id_at_another_unit_is_another_record(weighing: RunningWeighing, registry: RunningRegistry) -> None:
    register_site(registry, "u-same-id")
    first, second = weighing.record(record()), weighing.record(record(source_unit_id="u-same-id"))
    assert not second.is_duplicate
    assert first.receipt.sequence != second.receipt.sequence


def test_unknown_fields_are_content(weighing: RunningWeighing) -> None:
    first = weighing.record(tagged(record(), 999, b"a"))
    assert weighing.record(tagged(record(), 999, b"a")).receipt == first.receipt
    for other in (tagged(record(), 999, b"b"), tagged(record(), 998, b"a"), record()):
        assert weighing.refused_record(other).reason == "RECORD_CONFLICT"


# Conflicts


def test_other_content_is_refused_and_kept_once(weighing: RunningWeighing) -> None:
    first = weighing.record(record())
    for _ in range(3):
        refusal = weighing.refused_record(record(gross_weight_kg=20_000))
        assert (refusal.status, refusal.reason) == ("ALREADY_EXISTS", "RECORD_CONFLICT")
        assert refusal.metadata == {"record_id": "r-1", "origin": "141025", "sequence": str(first.receipt.sequence)}
    (held,) = weighing.conflicts()
    assert held.conflict.record == record(gross_weight_kg=20_000)
    assert held.conflict.first_sequence == first.receipt.sequence
    assert weighing.conflicts_in_journal() == {held.receipt.sequence: held.conflict}
    assert weighing.list_all()[0].weighing.record == record()


def test_at_most_eight_conflicts_are_kept(weighing: RunningWeighing) -> None:
    weighing.record(record())
    others = [record(gross_weight_kg=10_000 + number) for number in range(12)]
    results = weighing.record_all(others[:6])
    results += [result for other in others[6:] for result in weighing.record_all([other])]
    assert [reason_of(result) for result in results] == ["RECORD_CONFLICT"] * 8 + ["TOO_MANY_CONFLICTS"] * 4
    # Those kept are still recognised.
    assert reason_of(weighing.record_all(others[:1])[0]) == "RECORD_CONFLICT"
    assert [held.conflict.record.gross_weight_kg for held in reversed(weighing.conflicts())] == list(
        range(10_000, 10_008)
    )


def test_conflicts_within_one_batch(weighing: RunningWeighing) -> None:
    batch = [record(), record(gross_weight_kg=20_000), record(), record(gross_weight_kg=20_000, is_backfill=True)]
    results = weighing.record_all(batch)
    assert [reason_of(result) for result in results] == ["recorded", "RECORD_CONFLICT", "duplicate", "RECORD_CONFLICT"]
    assert len(weighing.conflicts()) == 1


# Several at once


def send_all(weighing: RunningWeighing, batches: Sequence[Sequence[WeighingRecord]]) -> list[pb.RecordResult]:
    return [result for answer in weighing.stream(batches) for result in answer.results]


def test_two_streams_with_the_same_records_record_each_once(weighing: RunningWeighing) -> None:
    batches = [records(50, f"s{number}") for number in range(20)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: send_all(weighing, batches), range(2)))
    first, second = answers
    assert [result.recorded.receipt for result in first] == [result.recorded.receipt for result in second]
    counted = Counter(map(reason_of, first + second))
    assert counted == {"recorded": 1_000, "duplicate": 1_000}
    assert len(weighing.list_all(1_000)) == 1_000
    assert weighing.position().size == 1_001


def test_two_replicas_record_each_once(weighing: RunningWeighing) -> None:
    replica = weighing.replica()
    batches = [records(40, f"s{number}") for number in range(25)]
    backwards = list(reversed(batches))
    try:
        with ThreadPoolExecutor(4) as pool:
            runs = [
                pool.submit(send_all, service, order)
                for service in (weighing, replica)
                for order in (batches, backwards)
            ]
            answers = [run.result() for run in runs]
    finally:
        replica.close()
    receipts: dict[str, set[int]] = {}
    for result in (one for answer in answers for one in answer):
        receipts.setdefault(result.record_id, set()).add(result.recorded.receipt.sequence)
    assert {len(sequences) for sequences in receipts.values()} == {1}
    assert Counter(reason_of(result) for answer in answers for result in answer)["recorded"] == 1_000
    assert sorted(weighing.weighings_in_journal()) == list(range(2, 1_002))
    (total,) = weighing.day_totals()
    assert (total.weighing_count, total.gross_weight_sum_kg) == (1_000, 24_000_000)


def test_a_duplicate_is_answered_only_after_the_first_is_durable(weighing: RunningWeighing) -> None:
    with ThreadPoolExecutor(3) as pool, locked_head(weighing):
        first = pool.submit(weighing.record, record())
        wait_until(lambda: waits_for_head(weighing), "the first transaction waits")
        second = pool.submit(weighing.record, record())
        third = pool.submit(weighing.refused_record, record(gross_weight_kg=20_000))
        assert not threading.Event().wait(0.2)
        assert [run.done() for run in (first, second, third)] == [False] * 3
    assert second.result().receipt == first.result().receipt
    assert third.result().reason == "RECORD_CONFLICT"


def waits_for_head(weighing: RunningWeighing) -> bool:
    return bool(
        weighing.query("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    )


@pytest.mark.parametrize("is_small", [True, False])
def test_a_duplicate_of_a_failed_first_is_recorded_itself(weighing: RunningWeighing, is_small: bool) -> None:
    """The first transaction dies while the second, which only holds duplicates of it, is planned on top of it."""
    # More than the planning thread commits itself, and few enough for INSERTs in the small case.
    batch = records(20 if is_small else 100)
    with ThreadPoolExecutor(2) as pool:
        with locked_head(weighing):
            first = pool.submit(weighing.refusal, "RecordWeighings", pb.RecordWeighingsRequest(records=batch))
            wait_until(lambda: waits_for_head(weighing), "the first transaction waits")
            second = pool.submit(weighing.record_all, batch)
            planned = weighing.app._committer._planned
            wait_until(lambda: planned.qsize() == 1, "the second is planned on the first")
            weighing.query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            assert first.result().reason == "DATABASE_UNAVAILABLE"
        results = second.result()
    assert {reason_of(result) for result in results} == {"recorded"}
    assert len(weighing.weighings_in_journal()) == len(batch)
    assert {result.recorded.receipt.sequence for result in results} == set(weighing.weighings_in_journal())


# Any history

KEYS = 6
WEIGHTS = 3
SERVICES = 2

an_item = st.tuples(st.integers(0, KEYS - 1), st.integers(0, WEIGHTS - 1), st.booleans())
a_batch = st.lists(an_item, min_size=1, max_size=8)
a_round = st.lists(st.tuples(st.integers(0, SERVICES - 1), a_batch), min_size=1, max_size=5)
histories = st.lists(st.one_of(a_round, st.just("restart")), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def replicas(shared: RunningWeighing) -> Iterator[list[RunningWeighing]]:
    replica = shared.replica()
    yield [shared, replica]
    replica.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
def test_any_history_leaves_one_weighing_per_record(
    replicas: list[RunningWeighing], history: list[list[tuple[int, list[tuple[int, int, bool]]]] | str]
) -> None:
    """Rounds of concurrent batches at two replicas, with restarts between, against what the answers alone imply."""
    first_new = replicas[0].position().size + 1
    answers: list[tuple[WeighingRecord, pb.RecordResult]] = []

    def send(service: int, batch: list[tuple[int, int, bool]]) -> list[tuple[WeighingRecord, pb.RecordResult]]:
        sent = [
            record(f"h{first_new}-{key}", gross_weight_kg=20_000 + weight, is_backfill=is_backfill)
            for key, weight, is_backfill in batch
        ]
        return list(zip(sent, replicas[service].record_all(sent), strict=True))

    with ThreadPoolExecutor(5) as pool:
        for step in history:
            if isinstance(step, str):
                replicas[1].stop()
                replicas[1].start()
            else:
                for run in [pool.submit(send, service, batch) for service, batch in step]:
                    answers += run.result()

    held = {
        weighing.record.record_id: (sequence, weighing)
        for sequence, weighing in replicas[0].weighings_in_journal().items()
        if sequence >= first_new
    }
    conflicts = {
        sequence: conflict for sequence, conflict in replicas[0].conflicts_in_journal().items() if sequence >= first_new
    }
    # Dense and complete: every record id once, and nothing besides weighings and conflicts.
    assert set(held) == {sent.record_id for sent, _ in answers}
    places = sorted([sequence for sequence, _ in held.values()] + list(conflicts))
    assert places == list(range(first_new, first_new + len(places)))
    assert len(replicas[0].weighings_in_journal()) == len({h.record.record_id for h in all_weighings(replicas[0])})
    # Every answer agrees with what is held, and exactly one says that it was the first.
    for sent, result in answers:
        sequence, weighing = held[sent.record_id]
        if weighing.record.gross_weight_kg == sent.gross_weight_kg:
            assert result.recorded.receipt.sequence == sequence
            assert result.recorded.judgement == weighing.judgement
        else:
            assert reason_of(result) == "RECORD_CONFLICT"
            assert result.refusal.metadata["sequence"] == str(sequence)
    firsts = Counter(sent.record_id for sent, result in answers if reason_of(result) == "recorded")
    assert firsts == dict.fromkeys(held, 1)
    # Every other content is kept exactly once.
    assert Counter((one.record.record_id, one.record.gross_weight_kg) for one in conflicts.values()) == {
        (sent.record_id, sent.gross_weight_kg): 1 for sent, result in answers if reason_of(result) == "RECORD_CONFLICT"
    }
    (total,) = replicas[0].day_totals(source_unit_id=UNIT)
    everything = all_weighings(replicas[0])
    assert total.weighing_count == len(everything)
    assert total.gross_weight_sum_kg == sum(one.record.gross_weight_kg for one in everything)


def all_weighings(weighing: RunningWeighing) -> list[weighing_pb2.Weighing]:
    return list(weighing.weighings_in_journal().values())
