"""Certificates of all three administrations are renewed while records flow: none is lost, none comes twice.

The single steps, half renewals and a new authority are in `tests/relay/test_renewal`.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.pki.authority import Validity
from cli.pki.files import renew_pair
from cli.simulate.site import CITY, COUNTY, PROVINCE
from tests.system.administrations import HOSTS, Administrations
from tests.system.attempts_of_peers import greeting
from tests.system.joined import CALL_SECONDS, WAIT_SECONDS
from tests.system.waiting import wait_until
from zhichao.journal.v1 import entry_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub
from zhichao.weighing.v1 import weighing_pb2

pytestmark = pytest.mark.system

ROUNDS = 3
RECORDS_AT_ONCE = 10


def renew(three: Administrations, code: str) -> None:
    """Replace the certificate and the key of a platform, as `zhichao pki issue --renew` does."""
    pair = three.authority.issue_platform(code, (HOSTS[code],), Validity.of_days(30))
    renew_pair(three.directory / "pki" / code, pair, three.authority)


@contextmanager
def weighing(three: Administrations) -> Iterator[list[str]]:
    """Weigh trucks all the time; what is given grows by the ids of the records that were acknowledged."""
    stop = threading.Event()
    acknowledged: list[str] = []
    failures: list[BaseException] = []

    def weigh() -> None:
        try:
            while not stop.is_set():
                records = three.joined.take(RECORDS_AT_ONCE)
                three.joined.record(records)
                acknowledged.extend(record.record_id for record in records)
        except BaseException as failure:  # noqa: BLE001 - shown by the test
            failures.append(failure)

    thread = threading.Thread(target=weigh)
    thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        thread.join()
    assert failures == []


def taken(three: Administrations, code: str) -> int:
    """Return how often a platform has taken a new certificate."""
    return len(three.lines_of(code, "certificate_taken"))


def are_taken(three: Administrations, count: int) -> bool:
    """Tell whether all have taken so many certificates; somebody connects, since servers look when somebody does."""
    for upper, lower in ((PROVINCE, CITY), (CITY, COUNTY)):
        with three.peer(upper, three.certificate(lower)) as channel:
            RelayServiceStub(channel).Handshake(greeting(lower), timeout=CALL_SECONDS)
    return all(taken(three, code) >= count for code in HOSTS)


def recorded(entries: list[bytes]) -> Counter[str]:
    """Return how often each record stands in a log."""
    parsed = [entry_pb2.Entry.FromString(entry) for entry in entries]
    kind = weighing_pb2.Weighing.DESCRIPTOR.full_name
    weighings = [weighing_pb2.Weighing.FromString(one.payload) for one in parsed if one.kind == kind]
    return Counter(one.record.record_id for one in weighings)


def test_certificates_are_renewed_while_records_flow(directory: Path) -> None:
    with Administrations(directory) as three:
        with weighing(three) as acknowledged:
            for count in range(1, ROUNDS + 1):
                for code in (PROVINCE, CITY, COUNTY):
                    renew(three, code)
                    # Records go on arriving at the top: what was weighed after the renewal, too.
                    size = three.joined.position(COUNTY).size + 1
                    wait_until(
                        lambda size=size: three.joined.position(PROVINCE).size >= size,  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
                        WAIT_SECONDS,
                        "nothing arrives any more",
                    )
                wait_until(
                    lambda count=count: are_taken(three, count),  # type: ignore[misc]  # as above
                    WAIT_SECONDS,
                    lambda: f"not taken: {[(code, taken(three, code)) for code in HOSTS]}",
                )
        three.wait_settled()
        above = three.joined.entries(PROVINCE)

        assert above == three.joined.entries(COUNTY)
        counts = recorded(above)
        assert {record_id: counts[record_id] for record_id in acknowledged} == dict.fromkeys(acknowledged, 1)
        assert len(acknowledged) >= ROUNDS * RECORDS_AT_ONCE
