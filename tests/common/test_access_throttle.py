"""Failed attempts: where they are counted, what is told of those that nobody looked at, and what is forgotten."""

import pytest
from structlog.testing import capture_logs

from services.common.access import throttle
from services.common.access.throttle import FAILURE_WINDOW_SECONDS, FAILURES_FREE, FailedAttempts, source_of


class Seconds:
    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self) -> float:
        return self.value


PEER = "ipv4:192.0.2.1:40000"


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def attempts(seconds: Seconds) -> FailedAttempts:
    return FailedAttempts(seconds)


def fail(attempts: FailedAttempts, count: int, peer: str = PEER, credential_id: str = "t-1") -> None:
    for _ in range(count):
        attempts.failed(peer, credential_id, "INVALID_CREDENTIALS")


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:192.0.2.1:40000", "ipv4:192.0.2.1"),
        ("ipv6:[2001:db8::1]:40000", "ipv6:2001:db8::/64"),
        ("ipv6:[2001:db8::ffff:1]:40001", "ipv6:2001:db8::/64"),
        ("ipv6:[fe80::1%eth0]:40000", "ipv6:fe80::/64"),
        ("ipv6:[::ffff:192.0.2.1]:40000", "ipv4:192.0.2.1"),
        ("unix:", "unix"),
        ("unix:/run/registry.sock", "unix"),
        ("ipv6:nonsense:1", "ipv6:nonsense"),
    ],
)
def test_a_source_is_an_address_without_its_port(peer: str, source: str) -> None:
    assert source_of(peer) == source


def test_ports_of_one_address_and_addresses_of_one_network_are_one_source(attempts: FailedAttempts) -> None:
    for port in range(FAILURES_FREE):
        attempts.failed(f"ipv6:[2001:db8::{port}]:{port}", "t-1", "INVALID_CREDENTIALS")

    assert attempts.seconds_delayed("ipv6:[2001:db8::99]:7", "t-1") == 1.0
    assert attempts.seconds_delayed("ipv6:[2001:db8:1::99]:7", "t-1") == 0.0
    assert attempts.seconds_delayed("ipv6:[2001:db8::99]:7", "t-2") == 0.0


def test_a_failure_now_and_then_delays_nobody(attempts: FailedAttempts, seconds: Seconds) -> None:
    for _ in range(5 * FAILURES_FREE):
        attempts.failed(PEER, "t-1", "INVALID_CREDENTIALS")
        seconds.value += FAILURE_WINDOW_SECONDS / (FAILURES_FREE - 1) + 0.1

    assert attempts.seconds_delayed(PEER, "t-1") == 0.0


def test_ten_within_a_minute_delay(attempts: FailedAttempts, seconds: Seconds) -> None:
    for _ in range(FAILURES_FREE):
        assert attempts.seconds_delayed(PEER, "t-1") == 0.0
        attempts.failed(PEER, "t-1", "INVALID_CREDENTIALS")
        seconds.value += (FAILURE_WINDOW_SECONDS - 1) / FAILURES_FREE
    seconds.value -= (FAILURE_WINDOW_SECONDS - 1) / FAILURES_FREE

    assert attempts.seconds_delayed(PEER, "t-1") == 1.0


def test_what_was_not_looked_at_is_told_once_when_the_delay_is_over(attempts: FailedAttempts, seconds: Seconds) -> None:
    fail(attempts, FAILURES_FREE)
    for _ in range(1_000):
        assert attempts.seconds_delayed(PEER, "t-1") == 1.0
    with capture_logs() as events:
        attempts.sweep()
        assert events == []
        seconds.value += 1.0
        attempts.sweep()
        attempts.sweep()

    (told,) = events
    assert (told["event"], told["peer_address"], told["credential_id"], told["count"]) == (
        "authentication_attempts_delayed",
        "ipv4:192.0.2.1",
        "t-1",
        1_000,
    )
    assert attempts.count == FAILURES_FREE + 1_000


def test_a_source_that_is_quiet_is_forgotten(attempts: FailedAttempts, seconds: Seconds) -> None:
    fail(attempts, 1)
    fail(attempts, FAILURES_FREE + 3, credential_id="t-2")
    seen = []
    for elapsed in (FAILURE_WINDOW_SECONDS + 1, 8):
        seconds.value += elapsed
        attempts.sweep()
        seen.append(attempts.has_sources)
    # The second one was delayed for eight seconds more.
    assert seen == [True, False]
    fail(attempts, 1, credential_id="t-2")
    assert attempts.seconds_delayed(PEER, "t-2") == 0.0


def test_the_longest_quiet_source_gives_way(attempts: FailedAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SOURCES_MAX", 2)
    fail(attempts, FAILURES_FREE, "ipv4:192.0.2.1:1")
    fail(attempts, FAILURES_FREE, "ipv4:192.0.2.2:1")
    fail(attempts, 1, "ipv4:192.0.2.3:1")

    assert attempts.seconds_delayed("ipv4:192.0.2.1:1", "t-1") == 0.0
    assert attempts.seconds_delayed("ipv4:192.0.2.2:1", "t-1") == 1.0
