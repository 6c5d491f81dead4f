"""What evidence gets of a line that is capped: what entries leave, and a trickle while they wait for days."""

from services.relay.bandwidth import UNLIMITED, parse_schedule
from services.relay.pacing import (
    ASK_SECONDS_MAX,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    TRICKLE_SHARE,
    ObjectPace,
    Pacer,
)
from services.relay.standing import LogKey
from tests.relay.clocks import StandingClock

KIB = 1024
CAP = 100 * KIB
PIECE = 16 * KIB
LOG = LogKey("weighing", "141025")
REQUESTED, BACKFILL = 1, 3


def pacer(text: str = "100KiB/s") -> tuple[Pacer, StandingClock]:
    clock = StandingClock()
    return Pacer(parse_schedule(text), clock), clock


def run(
    paced: Pacer, clock: StandingClock, seconds: float, objects: dict[bytes, int], entry_bytes: int
) -> dict[object, int]:
    """Let objects, by urgency, and a log that always has a batch of so many bytes ask as often as they are told."""
    sent: dict[object, int] = dict.fromkeys([*objects, *([LOG] if entry_bytes else [])], 0)
    due = dict.fromkeys(sent, clock.monotonic())
    ends_at = clock.monotonic() + seconds
    while due[key := min(due, key=lambda one: due[one])] < ends_at:
        clock.advance(max(due[key] - clock.monotonic(), 0.0))
        size = entry_bytes if key is LOG else PIECE
        pause = (
            paced.ask(LOG, size) if key is LOG else paced.ask_for_evidence(key, objects[key], size)  # type: ignore[index, arg-type]  # keys are digests or the log
        )
        assert 0 <= pause <= ASK_SECONDS_MAX
        due[key] = clock.monotonic() + pause
        sent[key] += 0 if pause else size
    return sent


def test_evidence_has_the_line_while_no_entries_wait() -> None:
    paced, clock = pacer()
    sent = run(paced, clock, 60, {b"clip": BACKFILL}, 0)
    assert abs(sent[b"clip"] - 60 * CAP) <= CAP + PIECE
    # What is counted as entries stays that.
    assert paced.pushed_bytes == 0


def test_a_backlog_of_entries_leaves_a_trickle() -> None:
    paced, clock = pacer()
    sent = run(paced, clock, 600, {b"clip": BACKFILL}, 30 * KIB)
    assert abs(sent[b"clip"] - 600 * CAP * TRICKLE_SHARE) <= CAP * TRICKLE_SHARE + 2 * PIECE
    assert abs(sent[b"clip"] + sent[LOG] - 600 * CAP) <= CAP + 30 * KIB + PIECE


def test_an_entry_waits_for_one_piece_at_most() -> None:
    paced, clock = pacer()
    run(paced, clock, 30, {b"clip": BACKFILL, b"other": BACKFILL}, 0)
    began = clock.monotonic()
    while pause := paced.ask(LOG, 400):
        for digest in (b"clip", b"other"):
            paced.ask_for_evidence(digest, BACKFILL, PIECE)
        clock.advance(pause)
    assert clock.monotonic() - began <= 2 * PIECE / CAP + 0.1


def test_the_most_urgent_object_goes_first() -> None:
    paced, clock = pacer()
    sent = run(paced, clock, 60, {b"old": BACKFILL, b"asked for": REQUESTED}, 0)
    assert sent[b"asked for"] > 50 * CAP
    assert sent[b"old"] <= 10 * PIECE


def test_nothing_goes_while_it_is_paused() -> None:
    paced, clock = pacer("00:00-18:00=paused")
    for _ in range(6 * 60):
        assert paced.ask_for_evidence(b"clip", REQUESTED, 1) == ASK_SECONDS_MAX
        clock.advance(60)
    assert paced.ask_for_evidence(b"clip", REQUESTED, 1) == 0


def test_without_a_schedule_everything_goes() -> None:
    paced = Pacer(UNLIMITED, StandingClock())
    assert [paced.ask_for_evidence(b"clip", BACKFILL, 10**9) for _ in range(3)] == [0, 0, 0]
    assert paced.piece_bytes_max == PIECE_BYTES_MAX
    assert not paced.is_evidence_waiting


def test_pieces_are_as_small_as_the_line() -> None:
    assert pacer()[0].piece_bytes_max == 25 * KIB
    assert pacer("1KiB/s")[0].piece_bytes_max == PIECE_BYTES_MIN
    assert pacer("1GiB/s")[0].piece_bytes_max == PIECE_BYTES_MAX


def test_an_object_that_asks_no_more_holds_nobody_up() -> None:
    paced, clock = pacer()
    pace = ObjectPace(paced, b"gone", lambda: REQUESTED)
    assert pace.ask(10 * KIB) > 0
    waiting_before = paced.is_evidence_waiting
    pace.withdraw()
    assert (waiting_before, paced.is_evidence_waiting) == (True, False)
    clock.advance(1)
    assert paced.ask_for_evidence(b"clip", BACKFILL, KIB) == 0
