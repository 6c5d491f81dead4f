"""Bytes of evidence on their way up: what only the county holds comes to the province through the city, whatever is
killed, away or damaged in between, once, and without anybody logging in anywhere.
"""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cli.simulate.site import CITY, COUNTY, PROVINCE
from tests.system.evidence import Evidence, evidence_progress, seal
from tests.system.joined import WAIT_SECONDS, Joined
from tests.system.waiting import wait_until
from tests.video.media_files import clip, large_photo, photo

pytestmark = pytest.mark.system

LINE = "512KiB/s"
"""What the county's line carries: six megabytes are twelve seconds on their way, in which something can happen."""

BIG_BYTES = 6 << 20

ONLY_ASKED = {"ZHICHAO_VIDEO_EAGER": "nothing"}

ALL_CLIPS = {"ZHICHAO_VIDEO_EAGER": "sampled", "ZHICHAO_VIDEO_SAMPLE_PERMILLE": "1000"}

RECEIVED_ON_THE_WAY = [(PROVINCE, "RECEIVED"), (PROVINCE, "REQUESTED"), (CITY, "RECEIVED")]


@pytest.fixture(scope="module")
def three() -> Iterator[Joined]:
    """Run a county, a city that wants nothing that nobody has asked for, and a province that wants every clip."""
    directory = Path(tempfile.mkdtemp(prefix="zhichao-system-"))
    environments = {
        COUNTY: {"ZHICHAO_RELAY_BANDWIDTH": LINE},
        CITY: ONLY_ASKED,
        PROVINCE: ALL_CLIPS,
    }
    try:
        with Joined(directory, environments=environments) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def arrived(evidence: Evidence, content: bytes) -> None:
    """Check that the bytes are at the province and at the city, and that custody says so once for each."""
    evidence.wait_for(PROVINCE, "HELD")
    assert [evidence.state(code) for code in (COUNTY, CITY)] == ["HELD"] * 2
    assert evidence.read(PROVINCE) == content
    seen = (PROVINCE, "VIEWED")
    wait_until(
        lambda: evidence.custody(PROVINCE) == sorted([*RECEIVED_ON_THE_WAY, seen]),
        WAIT_SECONDS,
        lambda: str(evidence.custody(PROVINCE)),
    )


def test_the_province_gets_what_only_the_county_holds(three: Joined) -> None:
    content = photo()
    evidence = seal(three, content)
    # Manifests go up by themselves, at once.
    evidence.wait_for(PROVINCE, "BELOW")
    assert evidence.state(CITY) == "BELOW"

    assert evidence.ask(PROVINCE)
    arrived(evidence, content)
    for code in (COUNTY, CITY):
        wait_until(
            lambda code=code: evidence_progress(three, code).waiting_objects == 0,  # type: ignore[misc]  # a lambda with a default is a callable without arguments
            WAIT_SECONDS,
            "something waits",
        )
        progress = evidence_progress(three, code)
        assert progress.pushed_objects >= 1
        assert progress.last_error == ""


def test_the_city_is_down_for_a_while(three: Joined) -> None:
    content = photo()
    evidence = seal(three, content)
    evidence.wait_for(PROVINCE, "BELOW")

    three.platforms[CITY].terminate()
    assert evidence.ask(PROVINCE)
    assert evidence.state(PROVINCE) == "WANTED"
    three.platforms[CITY].start()

    arrived(evidence, content)


def test_the_province_wants_by_its_policy_what_the_city_does_not(three: Joined) -> None:
    content = clip()
    evidence = seal(three, content, is_clip=True)

    evidence.wait_for(PROVINCE, "HELD")
    assert [evidence.state(code) for code in (COUNTY, CITY)] == ["HELD"] * 2
    assert evidence.read(PROVINCE) == content
    # Nobody has asked for it.
    expected = sorted([(PROVINCE, "RECEIVED"), (PROVINCE, "VIEWED"), (CITY, "RECEIVED")])
    wait_until(lambda: evidence.custody(PROVINCE) == expected, WAIT_SECONDS, lambda: str(evidence.custody(PROVINCE)))


@pytest.mark.parametrize("killed", [CITY, COUNTY])
def test_a_platform_is_killed_while_bytes_are_on_their_way(three: Joined, killed: str) -> None:
    content = large_photo(BIG_BYTES)
    evidence = seal(three, content)
    evidence.wait_for(PROVINCE, "BELOW")
    wait_on_the_way(three, evidence)

    three.platforms[killed].kill_everything()
    come_bytes = spooled_bytes(three)
    three.platforms[killed].start()

    assert 0 < come_bytes < len(content)
    arrived(evidence, content)


def wait_on_the_way(three: Joined, evidence: Evidence) -> None:
    """Ask at the province, and wait until a part of it has come to the city."""
    assert evidence.ask(PROVINCE)
    wait_until(lambda: spooled_bytes(three) > BIG_BYTES // 20, WAIT_SECONDS, "nothing is on its way")


def spooled_files(three: Joined) -> list[Path]:
    """Return the files of what has come to the city in part."""
    return list((three.platforms[CITY].data_directory / "spool").glob("below-*.part"))


def spooled_bytes(three: Joined) -> int:
    """Return how much has come to the city of what has come in part."""
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in spooled_files(three))
    # All of it has come meanwhile.
    return 0


def test_bytes_that_are_damaged_on_the_way_are_got_again(three: Joined) -> None:
    content = large_photo(BIG_BYTES)
    evidence = seal(three, content)
    evidence.wait_for(PROVINCE, "BELOW")
    wait_on_the_way(three, evidence)
    three.platforms[CITY].kill_everything()
    (spooled,) = spooled_files(three)
    with spooled.open("r+b") as file:
        file.seek(1_000)
        file.write(b"damaged on the way")
    three.platforms[CITY].start()

    # The digest is another one: all of it is forgotten, and comes again.
    arrived(evidence, content)


def test_two_requests_at_once(three: Joined) -> None:
    contents = [photo(), photo()]
    first, second = (seal(three, content) for content in contents)
    for evidence in (first, second):
        evidence.wait_for(PROVINCE, "BELOW")

    with ThreadPoolExecutor(4) as executor:
        asked = [executor.submit(evidence.ask, PROVINCE) for evidence in (first, first, second, second)]
        requests = [one.result() for one in asked]

    assert (requests[0], requests[2]) == (requests[1], requests[3])
    for evidence, content in zip((first, second), contents, strict=True):
        arrived(evidence, content)


def test_nobody_met_a_fault(three: Joined) -> None:
    """Last: everything above has left its lines."""
    for code, process in three.platforms.items():
        lines = process.log_text().splitlines()
        assert [line for line in lines if '"exception":' in line or '"INTERNAL"' in line] == [], code
