"""Persons and relays at once, on replicas: one response counts, positions are dense, and nobody waits in a circle."""

from concurrent.futures import Future, ThreadPoolExecutor

from tests.enforcement.examples import acknowledge, answer, duty_check, issue_duty_check, issue_notice, notice
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, RunningEnforcement
from tests.running_service import carry_down, carry_up
from zhichao.enforcement.v1 import service_pb2 as pb

TIMES = 12


def test_of_many_acknowledgements_one_counts(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    carry_down(city, county)
    replica = county.replica()
    try:
        with ThreadPoolExecutor(TIMES) as pool:
            answers = list(
                pool.map(
                    lambda number: acknowledge((county, replica)[number % 2], CITY, text=f"第 {number}"), range(TIMES)
                )
            )
    finally:
        replica.close()

    assert sorted(one.is_acknowledged_before for one in answers) == [False] + [True] * (TIMES - 1)
    assert len({one.recipient.acknowledgement.text for one in answers}) == 1
    # Receipt and acknowledgement.
    assert len(county.own_entries()) == 2


def test_of_many_issues_one_counts(city: RunningEnforcement) -> None:
    replica = city.replica()
    try:
        with ThreadPoolExecutor(TIMES) as pool:
            held = list(
                pool.map(
                    lambda number: issue_notice((city, replica)[number % 2], notice("n-1", COUNTY, NEIGHBOUR)),
                    range(TIMES),
                )
            )
    finally:
        replica.close()

    assert len({one.sequence for one in held}) == 1
    assert len(city.own_entries()) == 2


def test_all_that_may_happen_at_once_happens(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement, neighbour: RunningEnforcement
) -> None:
    """The city receives from above and from two sides below, and issues and answers itself."""
    issue_duty_check(city, duty_check("both", COUNTY, NEIGHBOUR))
    for number in range(TIMES):
        issue_notice(province, notice(f"down-{number}", CITY))
        issue_duty_check(city, duty_check(f"county-{number}", COUNTY, NEIGHBOUR))
    for lower in (county, neighbour):
        carry_down(city, lower)
        for number in range(TIMES):
            answer(lower, CITY, f"county-{number}")

    def issue() -> None:
        for number in range(TIMES):
            issue_notice(city, notice(f"issued-{number}", COUNTY))

    with ThreadPoolExecutor(4) as pool:
        running: list[Future[object]] = [
            pool.submit(carry_down, province, city),
            pool.submit(carry_up, county, city),
            pool.submit(carry_up, neighbour, city),
            pool.submit(issue),
        ]
        for one in running:
            one.result()

    positions = [position for (position,) in city.query("SELECT position FROM inbox_changes ORDER BY 1")]
    # The check, its answers and those of both counties, what came from above, what was issued.
    assert positions == list(range(1, 1 + TIMES + 2 * TIMES + TIMES + TIMES + 1))
    assert city.parked() == []
    listed = city.call("ListDutyChecks", pb.ListDutyChecksRequest(page_size=200)).held_duty_checks
    counts = {one.duty_check.duty_check_id: one.counts.responded_count for one in listed}
    assert counts == {"both": 0} | {f"county-{number}": 2 for number in range(TIMES)}
