"""Video services of three levels, without relays: what relays do, tests do by hand."""

import pytest

from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, PROVINCE, RunningVideo
from tests.video.transfer.carrying import Levels


@pytest.fixture
def city(video_of: MakeVideo) -> RunningVideo:
    """Run the city's service."""
    return video_of(CITY)


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo, city: RunningVideo) -> Levels:
    """Run the services of a county, its city and its province."""
    return Levels(county, city, video_of(PROVINCE))
