"""A county that loses its databases for good, and has no backup: it comes back from what the city holds."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from cli.simulate.site import CITY, COUNTY, make_site
from tests.system.callers import CALL_SECONDS, RECORDS, SECONDS_MAX, Caller
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

pytestmark = pytest.mark.system

STREAMS = ("registry", "weighing", "video", "enforcement")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def rows(caller: Caller) -> set[tuple[str, int]]:
    """Return record and place of every weighing that the county's platform lists, or the city's of the county."""
    found: set[tuple[str, int]] = set()
    with caller.open("weighing") as channel:
        stub = service_pb2_grpc.WeighingServiceStub(channel)
        request = service_pb2.ListWeighingsRequest(filter=service_pb2.WeighingFilter(origin=COUNTY), page_size=1_000)
        while True:
            page = stub.ListWeighings(request, timeout=CALL_SECONDS)
            found |= {(one.weighing.record.record_id, one.receipt.sequence) for one in page.held_weighings}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


def has_recovered(caller: Caller) -> bool:
    try:
        status = caller.relay()
    except grpc.RpcError:
        return False
    own = [one for one in status.progress if one.origin == COUNTY]
    return {one.stream for one in own} == set(STREAMS) and not any(one.is_recovering for one in own)


def test_all_that_was_acknowledged_comes_back(directory: Path, stack: ExitStack, seed: int) -> None:
    certificates = make_certificates(directory / "pki", [CITY, COUNTY])
    site = make_site(seed=seed, units=2)
    city_process = stack.enter_context(PlatformProcess(CITY, directory / CITY, tls_directory=certificates[CITY]))
    city = Caller.of(city_process)
    city.register_below(COUNTY, CITY)
    home = directory / COUNTY
    with PlatformProcess(
        COUNTY, home, upstream=city_process.peer_address, tls_directory=certificates[COUNTY]
    ) as process:
        county = Caller.of(process)
        county.register(site)
        county.weigh(site, seed)
        wait_until(
            lambda: all(city.positions(one).get(COUNTY) == county.positions(one)[COUNTY] for one in STREAMS),
            SECONDS_MAX,
            "the city does not hold the county's logs",
        )
        before = rows(county)
        held = {one: city.positions(one)[COUNTY] for one in STREAMS}
    assert len(before) == RECORDS
    # What is left is the key, and the tokens that people hold.
    shutil.rmtree(home / "postgres")

    process = stack.enter_context(
        PlatformProcess(
            COUNTY,
            home,
            upstream=city_process.peer_address,
            tls_directory=certificates[COUNTY],
            arguments=("--recovering",),
        )
    )
    county = Caller.of(process)
    # The operator's token works again once the registry has its credential back.
    wait_until(lambda: has_recovered(county), SECONDS_MAX, "the county does not come back")
    for stream, (size, _) in held.items():
        assert county.positions(stream)[COUNTY][0] >= size
    assert rows(county) == before
    county.weigh(site, seed + 1)
    assert len(rows(county)) == 2 * RECORDS
    wait_until(lambda: rows(city) == rows(county), SECONDS_MAX, "the city does not get what came after it")
    wait_until(lambda: county.relay().state == relay_pb2.LINK_STATE_CURRENT, SECONDS_MAX, lambda: str(county.relay()))
