"""Watching weighings as they are recorded: from any position, narrowed, and picked up again where it broke off."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from services.weighing import handlers
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing, refused
from tests.weighing.records import UNIT, record, records
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import weighing_pb2


def watch(weighing: RunningWeighing, **fields: Any) -> Any:
    return weighing.stub.WatchWeighings(pb.WatchWeighingsRequest(**fields), timeout=20)


def seen(stream: Iterator[pb.WatchWeighingsResponse], count: int) -> list[str]:
    """Read a watch until it has told of so many weighings; return their record ids."""
    found: list[str] = []
    while len(found) < count:
        found += [held.weighing.record.record_id for held in next(stream).held_weighings]
    return found


def test_from_the_first_entry(weighing: RunningWeighing) -> None:
    weighing.record_all(records(5, "a"))
    stream = watch(weighing, first_sequence=1)
    assert seen(stream, 5) == [f"a-{n}" for n in range(5)]
    weighing.record_all(records(2, "b"))
    assert seen(stream, 2) == ["b-0", "b-1"]
    stream.cancel()


def test_from_now_on(weighing: RunningWeighing) -> None:
    weighing.record_all(records(5, "a"))
    stream = watch(weighing)
    # It has looked once the service counts it: only then is something new for it.
    wait_until(lambda: weighing.app.server._interceptor._open_streams, "the watch is open")
    threading.Event().wait(0.1)
    weighing.record(record("new"))
    assert seen(stream, 1) == ["new"]
    stream.cancel()


def test_from_a_place_in_the_middle_or_one_to_come(weighing: RunningWeighing) -> None:
    weighing.record_all(records(5, "a"))
    middle, ahead = watch(weighing, first_sequence=5), watch(weighing, first_sequence=8)
    assert seen(middle, 2) == ["a-3", "a-4"]
    weighing.record_all(records(3, "b"))
    assert seen(middle, 3) == ["b-0", "b-1", "b-2"]
    assert seen(ahead, 2) == ["b-1", "b-2"]
    far = watch(weighing, first_sequence=2**63 - 1)
    far.cancel()
    middle.cancel()
    ahead.cancel()


def test_only_what_the_filter_wants_and_the_position_goes_on(weighing: RunningWeighing) -> None:
    sent = [record(f"w-{number}", gross_weight_kg=20_000 + 10_000 * (number % 2)) for number in range(20)]
    weighing.record_all(sent)
    stream = watch(weighing, first_sequence=1, verdicts=[weighing_pb2.VERDICT_SUSPECTED], source_unit_id=UNIT)
    answer = next(stream)
    assert [held.weighing.record.record_id for held in answer.held_weighings] == [f"w-{n}" for n in range(1, 20, 2)]
    assert answer.next_sequence == 22
    stream.cancel()
    nothing = next(watch(weighing, first_sequence=1, source_unit_id="other"))
    assert (list(nothing.held_weighings), nothing.next_sequence) == ([], 22)


def test_watched_again_from_where_it_broke_off_misses_nothing(
    weighing: RunningWeighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While records keep coming, a watch that is broken off after every message tells of each exactly once."""
    monkeypatch.setattr(handlers, "WATCH_RECORDS_MAX", 7)
    batches = [records(9, f"x{number}") for number in range(30)]
    sending = threading.Thread(target=lambda: list(weighing.stream(batches)))
    sending.start()
    told: list[int] = []
    position = 1
    while len(told) < 270:
        stream = watch(weighing, first_sequence=position)
        answer = next(stream)
        stream.cancel()
        told += [held.receipt.sequence for held in answer.held_weighings]
        assert answer.next_sequence > position
        position = answer.next_sequence
    sending.join()
    assert told == list(range(2, 272))


def test_another_platforms_log(weighing: RunningWeighing, city: RunningWeighing) -> None:
    weighing.record_all(records(3, "a"))
    city.receive(weighing.batches())
    stream = watch(city, origin="141025", first_sequence=1)
    assert seen(stream, 3) == ["a-0", "a-1", "a-2"]
    weighing.record(record("later"))
    city.receive(weighing.batches(5))
    assert seen(stream, 1) == ["later"]
    stream.cancel()


def test_a_log_that_is_not_held_is_refused(weighing: RunningWeighing) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(watch(weighing, origin="140000"))
    refusal = refused(caught.value)
    assert (refusal.status, refusal.reason) == ("NOT_FOUND", "UNKNOWN_LOG")


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        (
            {"first_sequence": -1, "origin": "\x00", "source_unit_id": "\n"},
            ["first_sequence", "origin", "source_unit_id"],
        ),
        ({"verdicts": [0, 5]}, ["verdicts[0]", "verdicts[1]"]),
        ({"verdicts": [1] * 1_000}, ["verdicts"]),
    ],
)
def test_bad_fields_are_refused_at_once(weighing: RunningWeighing, fields: dict[str, Any], bad: list[str]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(watch(weighing, **fields))
    assert sorted(refused(caught.value).fields) == bad


def test_a_watch_ends_when_the_server_stops(weighing: RunningWeighing) -> None:
    weighing.record(record())
    stream = watch(weighing, first_sequence=1)
    assert seen(stream, 1) == ["r-1"]
    weighing.app.stop(5.0)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    refusal = refused(caught.value)
    assert (refusal.status, refusal.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
    weighing.start()
