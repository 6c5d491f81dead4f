"""Evidence while the cap of the link lets nothing through for hours: no push stays open for it, and none has failed."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from services.relay import evidence_push
from services.relay.limits import EVIDENCE_WAIT_SECONDS_MAX
from services.video.silence import PUSH_SECONDS_MAX
from tests.relay.conftest import CITY, COUNTY
from tests.relay.evidence import FakeVideo
from tests.relay.platforms import Platform, eventually


def test_a_push_that_the_cap_holds_up_ends_in_good_order_and_begins_anew(
    platform: Callable[..., Platform], socket_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_push, "EVIDENCE_WAIT_SECONDS_MAX", 0.0)
    upper, lower = FakeVideo(socket_directory, CITY), FakeVideo(socket_directory, COUNTY)
    city = platform(CITY, streams=["weighing"], fakes=[upper])
    city.start()
    county = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=city.address, bandwidth="paused")
    county.start()
    content = secrets.token_bytes(1_000)
    digest = lower.hold(content)
    upper.want(content)

    eventually(lambda: lower.sent_from.count((digest, 0)) > 2, "it is begun anew")
    progress = county.status().evidence_progress
    assert (progress.waiting_objects, progress.last_error) == (1, "")
    assert upper.received_bytes(digest) == 0


def test_the_pusher_ends_a_push_that_waits_before_the_receiver_does() -> None:
    assert EVIDENCE_WAIT_SECONDS_MAX < PUSH_SECONDS_MAX
