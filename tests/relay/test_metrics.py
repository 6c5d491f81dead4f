"""What the relay shows to Prometheus: the state of its link, how far it is behind, and who is below it."""

from collections.abc import Callable

from tests.metrics import shown_by
from tests.relay.conftest import CITY, COUNTY
from tests.relay.platforms import Platform, eventually

Make = Callable[..., Platform]


def state_shown(platform: Platform) -> str:
    states = shown_by(platform.app.metrics).values("zhichao_relay_link_state", "state")
    (current,) = [state for state, value in states.items() if value == 1]
    assert set(states.values()) <= {0, 1}
    return current


def test_a_link_that_is_current_shows_no_lag(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(300)
    county.wait_for_state("CURRENT")
    eventually(lambda: city["weighing"].size(COUNTY) == 301, "300 notes at the city")
    eventually(lambda: state_shown(county) == "CURRENT", "the state in the figures")

    seen = shown_by(county.app.metrics)
    for name in ("entries", "bytes", "seconds"):
        assert seen.values(f"zhichao_relay_lag_{name}", "stream") == {"registry": 0, "weighing": 0}
    assert seen.values("zhichao_relay_refused_logs", "stream") == {}
    assert seen.values("zhichao_relay_stalled_logs", "direction") == {"upward": 0, "downward": 0}
    eventually(
        lambda: (
            shown_by(county.app.metrics).values("zhichao_relay_following", "stream") == {"registry": 1, "weighing": 1}
        ),
        "the following of both streams in the figures",
    )
    assert seen.values("zhichao_relay_addressed_behind_logs", "stream") == {"registry": 0, "weighing": 0}
    held = county["weighing"].position(COUNTY)
    assert held is not None
    assert (seen.value("zhichao_relay_pushed_bytes_total") or 0) >= held.total_bytes
    skew = seen.value("zhichao_relay_clock_skew_seconds")
    assert skew is not None
    assert abs(skew) < 5
    below = shown_by(city.app.metrics)
    handshakes = below.values("zhichao_relay_downstream_handshake_timestamp_seconds", "platform")
    pushes = below.values("zhichao_relay_downstream_push_timestamp_seconds", "platform")
    assert list(handshakes) == list(pushes) == [COUNTY]
    assert pushes[COUNTY] >= handshakes[COUNTY] - 60 > 1_700_000_000


def test_what_waits_is_shown_while_the_upstream_is_away(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    # Its port is taken once and freed again: the upstream is configured and not there.
    city.start_relay()
    city.stop_relay()
    county = platform(COUNTY, upstream=city.address, streams=["weighing"])
    county.start()
    county["weighing"].write_many(50)

    def lag() -> float | None:
        return shown_by(county.app.metrics).value("zhichao_relay_lag_entries", stream="weighing")

    eventually(lambda: lag() == 51, "51 entries that wait")
    seen = shown_by(county.app.metrics)
    assert seen.value("zhichao_relay_lag_bytes", stream="weighing") == county["weighing"].position(COUNTY).total_bytes  # type: ignore[union-attr]  # the own log is there
    assert state_shown(county) == "CONNECTING"
    assert seen.value("zhichao_relay_clock_skew_seconds") is None


def test_a_refused_log_is_shown_with_its_reason(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, upstream=city.address, streams=["weighing"])
    county.start()
    county["weighing"].write_many(20)
    eventually(lambda: city["weighing"].size(COUNTY) == 21, "20 notes at the city")
    # Another history under the same key: the database was lost and begun anew.
    county["weighing"].stop()
    county["weighing"].move_to(county["weighing"].make_new())
    county["weighing"].start()
    county["weighing"].write_many(40, size=90)

    def refused() -> dict[str, float]:
        seen = shown_by(county.app.metrics)
        assert set(seen.values("zhichao_relay_refused_logs", "direction")) <= {"upward"}
        return seen.values("zhichao_relay_refused_logs", "reason")

    eventually(lambda: refused() == {"HISTORY_MISMATCH": 1}, "the refusal in the figures")
    eventually(lambda: state_shown(county) == "REFUSED", "the state in the figures")
