"""A hold that a platform above has placed while a county was cut off, or since the backup of its database, holds:
nothing is deleted before it had the time to come down.
"""

from datetime import timedelta

import pytest

from tests.video.bytes_read import actions
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, PROVINCE, RunningVideo
from tests.video.transfer.carrying import Levels, name_of, state_of
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run the services of a county, its city and its province."""
    return Levels(county, video_of(CITY), video_of(PROVINCE))


def start_after(county: RunningVideo, away: timedelta) -> None:
    """Start a service that was at work last so long ago, and wait until it has done all that is due."""
    county.query(
        "UPDATE scrub_state SET present_time = %s, delete_after_time = '2020-01-01', reconcile_time = NULL",
        county.clock.now() - away,
    )
    county.start()
    # Deleting comes before comparing.
    wait_until(lambda: county.query("SELECT reconcile_time FROM scrub_state") != [(None,)], "all that was due is done")


@pytest.mark.parametrize("over_days", [1, 60])
def test_a_hold_that_was_placed_while_the_county_was_off_holds(levels: Levels, over_days: int) -> None:
    county, province = levels.county, levels.province
    held = county.sealed()
    levels.carry_all()
    wait_until(lambda: county.query("SELECT reconcile_time FROM scrub_state") not in ([], [(None,)]), "it works")
    county.stop()
    county.query("UPDATE evidence SET retain_until_time = %s", county.clock.now() - timedelta(days=over_days))
    province.call("PlaceLegalHold", pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-7", purpose="立案调查"))

    # The link comes later than the service.
    start_after(county, timedelta(days=3))
    assert (actions(county, held), state_of(county, held)) == ([], "HELD")
    levels.carry_all()
    county.stop()
    start_after(county, timedelta(0))

    assert (actions(county, held), state_of(county, held)) == (["HOLD_PLACED"], "HELD")


def test_what_nobody_holds_goes_afterwards(levels: Levels) -> None:
    county = levels.county
    held = county.sealed()
    wait_until(lambda: county.query("SELECT reconcile_time FROM scrub_state") not in ([], [(None,)]), "it works")
    county.stop()
    county.query("UPDATE evidence SET retain_until_time = %s", county.clock.now() - timedelta(days=60))

    start_after(county, timedelta(0))

    assert (actions(county, held), state_of(county, held)) == (["DELETED"], "DELETED")
