"""Which object of evidence goes next, and which one gives way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.relay.evidence_queue import (
    RETRY_SECONDS_MAX,
    RETRY_SECONDS_MIN,
    SETTLED_SECONDS,
    EvidenceQueue,
    Urgency,
    Wanted,
)

NOW = 1_000.0


def wanted(name: str, urgency: Urgency = Urgency.BACKFILL, received: int = 0) -> Wanted:
    return Wanted(name.encode(), 100, received, urgency)


def queue(*objects: Wanted, pushes_max: int = 2) -> EvidenceQueue:
    made = EvidenceQueue(pushes_max)
    made.replace(objects, len(objects), 100 * len(objects))
    return made


def take_all(made: EvidenceQueue, now: float = NOW) -> list[bytes]:
    taken = []
    while (one := made.take(now)) is not None:
        taken.append(one.digest)
    return taken


def test_the_first_ones_go_and_no_more_than_may() -> None:
    made = queue(wanted("a"), wanted("b"), wanted("c"))
    assert take_all(made) == [b"a", b"b"]
    made.completed(b"a", NOW)
    assert take_all(made) == [b"c"]
    assert (made.object_count, made.missing_bytes) == (2, 200)


def test_the_list_that_comes_replaces_the_one_before() -> None:
    made = queue(wanted("a"))
    made.replace([wanted("b", received=40)], 1, 60)
    taken = made.take(NOW)
    assert (taken, made.take(NOW)) == (wanted("b", received=40), None)


def test_a_request_overtakes_what_runs() -> None:
    made = queue(wanted("a", Urgency.FRESH), wanted("b"), wanted("c"))
    assert take_all(made) == [b"a", b"b"]
    assert not made.must_give_way(b"a", NOW)
    assert not made.must_give_way(b"b", NOW)
    made.replace([wanted("r", Urgency.REQUESTED), wanted("a", Urgency.FRESH), wanted("b")], 3, 300)
    # The least urgent one gives way, and only one for one.
    assert [made.must_give_way(one, NOW) for one in (b"a", b"b")] == [False, True]
    made.gave_way(b"b", 70)
    assert take_all(made) == [b"r"]
    made.completed(b"r", NOW)
    taken = made.take(NOW)
    assert taken is not None
    assert (taken.digest, taken.received_bytes) == (b"b", 70)


def test_nothing_gives_way_while_there_is_room() -> None:
    made = queue(wanted("a"), pushes_max=3)
    take_all(made)
    made.replace([wanted("r", Urgency.REQUESTED), wanted("a")], 2, 200)
    assert not made.must_give_way(b"a", NOW)


def test_what_becomes_urgent_while_it_runs_is_not_overtaken() -> None:
    made = queue(wanted("a"), pushes_max=1)
    take_all(made)
    made.replace([wanted("a", Urgency.REQUESTED), wanted("b", Urgency.REQUESTED)], 2, 200)
    assert made.urgency(b"a") is Urgency.REQUESTED
    assert not made.must_give_way(b"a", NOW)


def test_what_failed_is_put_off_longer_each_time() -> None:
    made = queue(wanted("a"))
    pauses = []
    now = NOW
    for _ in range(9):
        assert take_all(made, now) == [b"a"]
        made.failed(b"a", None, now, 1.0, 0.0)
        assert take_all(made, now) == []
        pause = made.seconds_until_due(now)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [min(RETRY_SECONDS_MIN * 2**count, RETRY_SECONDS_MAX) for count in range(9)]


def test_who_refuses_says_how_long_it_is_put_off() -> None:
    made = queue(wanted("a"))
    take_all(made)
    made.failed(b"a", 30, NOW, 0.0, 17.0)
    assert made.seconds_until_due(NOW) == 17.0
    taken = made.take(NOW + 17)
    assert taken is not None
    assert taken.received_bytes == 30


def test_what_failed_is_due_when_the_own_service_is_back() -> None:
    made = queue(wanted("a"))
    take_all(made)
    made.failed(b"a", None, NOW, 1.0, 60.0)
    made.try_again()
    assert take_all(made) == [b"a"]


def test_what_is_not_held_is_offered_when_it_comes() -> None:
    made = queue(wanted("a"))
    take_all(made)
    assert made.not_held(b"a", NOW)
    assert (take_all(made), made.declined_count) == ([], 1)
    # The upstream asks for it no more, for now.
    made.replace([], 0, 0)
    made.held([b"other", b"a"])
    assert (take_all(made), made.declined_count) == ([b"a"], 0)


def test_what_comes_while_it_is_looked_for_is_not_declined() -> None:
    made = queue(wanted("a"))
    take_all(made)
    made.held([b"a"])
    assert not made.not_held(b"a", NOW)
    assert take_all(made) == [b"a"]


def test_what_was_declined_is_tried_again_when_it_is_listed_again() -> None:
    made = queue(wanted("a"))
    take_all(made)
    made.not_held(b"a", NOW)
    made.replace([wanted("a")], 1, 100)
    assert take_all(made, NOW + SETTLED_SECONDS - 0.1) == []
    assert take_all(made, NOW + SETTLED_SECONDS) == [b"a"]


def test_what_is_gone_is_not_waited_for() -> None:
    made = queue(wanted("a"))
    take_all(made)
    made.gone(b"a", NOW)
    made.replace([], 0, 0)
    made.held([b"a"])
    assert (take_all(made), made.declined_count) == ([], 0)


def test_what_is_remembered_as_declined_is_bounded() -> None:
    made = EvidenceQueue(pushes_max=1, declined_max=2)
    for name in ("a", "b", "c"):
        made.replace([wanted(name)], 1, 100)
        take_all(made)
        made.not_held(name.encode(), NOW)
    made.replace([], 0, 0)
    made.held([b"a", b"b", b"c"])
    assert made.declined_count == 0
    assert take_all(made) == [b"b"]


def test_a_follow_that_ends_leaves_what_was_declined() -> None:
    made = queue(wanted("a"), wanted("b"), pushes_max=1)
    take_all(made)
    made.not_held(b"a", NOW)
    made.clear()
    assert (take_all(made), made.object_count, made.declined_count) == ([], 0, 1)
    made.held([b"a"])
    assert take_all(made) == [b"a"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(list(Urgency))), unique_by=lambda one: one[0]))
def test_never_a_less_urgent_one_before_a_more_urgent_one(objects: list[tuple[str, Urgency]]) -> None:
    made = queue(*[wanted(*one) for one in objects], pushes_max=len(objects) or 1)
    urgencies = dict(objects)
    taken = [urgencies[digest.decode()] for digest in take_all(made)]
    assert taken == sorted(taken)
    assert len(taken) == len(objects)


@pytest.mark.parametrize("outcome", ["completed", "unwanted", "gone"])
def test_nothing_is_left_of_what_is_through(outcome: str) -> None:
    made = queue(wanted("a"))
    take_all(made)
    getattr(made, outcome)(b"a", NOW)
    # A list that was made before the upstream knew.
    made.replace([wanted("a")], 1, 100)
    assert (take_all(made, NOW + SETTLED_SECONDS - 0.1), take_all(made, NOW + SETTLED_SECONDS)) == ([], [b"a"])
    getattr(made, outcome)(b"a", NOW)
    made.replace([], 0, 0)
    assert (made.running_count, made.declined_count, made.seconds_until_due(NOW)) == (0, 0, None)
