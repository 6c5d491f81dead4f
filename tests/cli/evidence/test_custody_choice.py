"""Of more custody than a bundle holds, what matters stays, and what goes is counted."""

import random

import pytest

from cli.evidence_bundle.index import CUSTODY_MAX
from cli.evidence_export import custody_choice
from cli.evidence_export.custody_choice import CustodyChoice
from tests.cli.evidence.bundles import BUNDLE, CITY, COUNTY
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb

VIEWED = custody_pb2.CUSTODY_ACTION_VIEWED
DOWNLOADED = custody_pb2.CUSTODY_ACTION_DOWNLOADED
EXPORTED = custody_pb2.CUSTODY_ACTION_EXPORTED
HOLD_PLACED = custody_pb2.CUSTODY_ACTION_HOLD_PLACED

SEED = 20250301


def event(seconds: int, action: int, *, origin: str = COUNTY, reference_id: str = "") -> pb.HeldCustodyEvent:
    held = pb.HeldCustodyEvent(origin=origin, sequence=seconds)
    held.event.event_time.seconds = seconds
    held.event.action = action  # type: ignore[assignment]  # a number of the enum, also one of a newer release
    held.event.reference_id = reference_id
    return held


def chosen(*events: pb.HeldCustodyEvent) -> CustodyChoice:
    """Offer the events in any order."""
    choice = CustodyChoice(COUNTY, BUNDLE)
    for one in random.Random(SEED).sample(events, len(events)):
        choice.offer(one)
    return choice


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give bundles room for three."""
    monkeypatch.setattr(custody_choice, "CUSTODY_MAX", 3)


def test_what_fits_is_kept_in_the_order_of_its_logs() -> None:
    events = [event(3, VIEWED, origin=CITY), event(1, VIEWED), event(2, HOLD_PLACED)]
    choice = chosen(*events)
    assert choice.kept == [events[0], events[1], events[2]]
    assert choice.left_out == {}


@pytest.mark.usefixtures("three")
def test_the_oldest_views_go_and_all_else_stays() -> None:
    """Whenever it happened: here the hold is the oldest of all."""
    hold, *views = [event(1, HOLD_PLACED), *(event(second, VIEWED) for second in range(2, 9))]
    choice = chosen(hold, *views)
    assert choice.kept == [hold, *views[-2:]]
    assert choice.left_out == {"VIEWED": 5}


@pytest.mark.usefixtures("three")
def test_downloads_go_after_views_and_before_holds() -> None:
    """Whoever may look at evidence may download it as often: that must not make it impossible to export."""
    hold, export = event(1, HOLD_PLACED), event(2, EXPORTED, reference_id=BUNDLE)
    downloads = [event(second, DOWNLOADED) for second in range(3, 7)]
    choice = chosen(hold, export, *downloads, event(9, VIEWED), event(8, EXPORTED, reference_id="another"))
    assert choice.kept == [hold, export, event(8, EXPORTED, reference_id="another")]
    assert choice.left_out == {"DOWNLOADED": 4, "VIEWED": 1}


@pytest.mark.usefixtures("three")
def test_that_it_went_into_this_bundle_stays_whatever_else_was_done() -> None:
    export = event(1, EXPORTED, reference_id=BUNDLE)
    # Another platform may have named a bundle the same.
    others = [event(2, EXPORTED, origin=CITY, reference_id=BUNDLE), *(event(second, HOLD_PLACED) for second in (3, 4))]
    choice = chosen(export, *others, event(5, 77))
    assert choice.kept == [export, event(4, HOLD_PLACED), event(5, 77)]
    assert choice.left_out == {"EXPORTED": 1, "HOLD_PLACED": 1}


def test_a_bundle_has_room_for_what_is_kept() -> None:
    choice = chosen(*(event(second, VIEWED) for second in range(CUSTODY_MAX + 7)))
    assert (len(choice.kept), choice.left_out) == (CUSTODY_MAX, {"VIEWED": 7})
    assert choice.kept[0].sequence == 7
