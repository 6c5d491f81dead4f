"""The decisions about one log, without a wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.reasons import SPECS, Reason
from services.relay.standing import (
    LogKey,
    Place,
    Reaction,
    Standing,
    backoff_seconds,
    compare,
    explain,
    explain_ahead,
    is_link_failure,
    react,
    refuses_platform,
)

KEY = LogKey("weighing", "141025")


@pytest.mark.parametrize(
    ("local", "upstream", "place"),
    [
        (Standing(0), Standing(0), Place.CURRENT),
        (Standing(5, b"root"), Standing(5, b"root"), Place.CURRENT),
        (Standing(5, b"root"), Standing(5), Place.CURRENT),
        (Standing(5, b"root"), Standing(4, b"other"), Place.BEHIND),
        (Standing(5, b"root"), Standing(0), Place.BEHIND),
        (Standing(5, b"root", is_own=True), Standing(6, b"other"), Place.AHEAD),
        (Standing(5, b"root", is_own=True, is_recovering=True), Standing(6, b"other"), Place.AHEAD),
        # What comes from below is awaited from there.
        (Standing(5, b"root"), Standing(6, b"other"), Place.AWAITED),
        (Standing(5, b"root", is_own=True, is_recovering=True), Standing(5, b"root"), Place.UNCONFIRMED),
        (Standing(5, b"root", is_own=True, is_recovering=True), Standing(3, b"other"), Place.UNCONFIRMED),
        (Standing(0, b"", is_own=True, is_recovering=True), Standing(0), Place.UNCONFIRMED),
        (Standing(5, b"root", is_own=True, is_recovering=True), Standing(5, b"other"), Place.DIFFERENT),
        (Standing(5, b"root"), Standing(5, b"other"), Place.DIFFERENT),
        (Standing(5, b"root"), Standing(5, b"root", is_own=True), Place.OWNED),
    ],
)
def test_two_sides_compare(local: Standing, upstream: Standing, place: Place) -> None:
    assert compare(local, upstream) is place


def test_every_place_that_must_not_be_pushed_is_explained() -> None:
    local, upstream = Standing(5, b"a"), Standing(9, b"b")
    explained = {place for place in Place if explain(KEY, place, local, upstream)}
    assert explained == {Place.DIFFERENT, Place.OWNED, Place.NOT_TAKEN}
    ahead = explain_ahead(KEY, local, upstream)
    assert ahead.reason is Reason.BEYOND_LOG
    assert "holds 9 entries" in ahead.message
    assert "only 5" in ahead.message


@pytest.mark.parametrize(
    ("reason", "metadata", "reaction"),
    [
        (Reason.SEQUENCE_GAP, {"expected_sequence": "7"}, Reaction.CONTINUE),
        # A gap that names nowhere to go on is no use.
        (Reason.SEQUENCE_GAP, {}, Reaction.REFUSE),
        (Reason.SEQUENCE_GAP, {"expected_sequence": "0"}, Reaction.REFUSE),
        (Reason.SEQUENCE_GAP, {"expected_sequence": "-3"}, Reaction.REFUSE),
        (Reason.HISTORY_MISMATCH, {}, Reaction.REFUSE),
        (Reason.INVALID_CHECKPOINT, {}, Reaction.REFUSE),
        (Reason.UNKNOWN_SIGNER, {}, Reaction.REFUSE),
        (Reason.ORIGIN_NOT_ALLOWED, {}, Reaction.REFUSE),
        (Reason.INVALID_ARGUMENT, {}, Reaction.REFUSE),
        (Reason.ENTRY_TOO_LARGE, {}, Reaction.REFUSE),
        (Reason.INCOMPATIBLE_VERSION, {}, Reaction.REFUSE),
        (Reason.SERVICE_UNAVAILABLE, {}, Reaction.RECONNECT),
        (Reason.DEADLINE_EXCEEDED, {}, Reaction.RECONNECT),
        # The relay is there, the service behind it is not.
        (Reason.SERVICE_UNAVAILABLE, {"stream": "weighing"}, Reaction.RETRY),
        (Reason.SHUTTING_DOWN, {}, Reaction.RETRY),
        (Reason.DATABASE_UNAVAILABLE, {}, Reaction.RETRY),
        (Reason.TOO_MANY_REQUESTS, {}, Reaction.RETRY),
        (Reason.INTERNAL, {}, Reaction.RETRY),
    ],
)
def test_each_failure_has_its_reaction(reason: Reason, metadata: dict[str, str], reaction: Reaction) -> None:
    assert react(ServiceError(reason, "why", metadata=metadata)) is reaction


@pytest.mark.parametrize("reason", [reason for reason in Reason if SPECS[reason].is_retryable])
def test_nothing_that_passes_by_itself_is_taken_for_a_refusal(reason: Reason) -> None:
    assert react(ServiceError(reason, "why")) in (Reaction.RETRY, Reaction.RECONNECT)


def test_a_link_failure_names_no_stream() -> None:
    assert is_link_failure(ServiceError(Reason.SERVICE_UNAVAILABLE, "away"))
    assert not is_link_failure(ServiceError(Reason.SERVICE_UNAVAILABLE, "away", metadata={"stream": "registry"}))
    assert not is_link_failure(ServiceError(Reason.INTERNAL, "fault"))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.PLATFORM_NOT_REGISTERED, True),
        (Reason.INVALID_CREDENTIALS, True),
        (Reason.CREDENTIAL_EXPIRED, True),
        (Reason.ORIGIN_NOT_ALLOWED, False),
        (Reason.HISTORY_MISMATCH, False),
        (Reason.SERVICE_UNAVAILABLE, False),
        # The upstream does not know yet, and may know the next moment.
        (Reason.ACCESS_UNKNOWN, False),
    ],
)
def test_some_refusals_are_of_the_platform_as_a_whole(reason: Reason, expected: bool) -> None:
    assert refuses_platform(ServiceError(reason, "why")) is expected


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pauses_grow_and_stay_below_the_maximum(failure_count: int, jitter: float) -> None:
    pause = backoff_seconds(failure_count, jitter, 0.2, 15.0)
    assert 0 <= pause <= 15.0
    assert pause <= backoff_seconds(failure_count + 1, jitter, 0.2, 15.0)
    assert backoff_seconds(1, 1.0, 0.2, 15.0) == 0.2
    assert backoff_seconds(10_000, 1.0, 0.2, 15.0) == 15.0
