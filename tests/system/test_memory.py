"""Memory of the relays and the weighing services stays bounded while a large backlog goes up."""

from pathlib import Path

import pytest

from cli.simulate.site import CITY, COUNTY
from tests.system.clients import RecordSource, record_all
from tests.system.conftest import MakeLevels
from tests.system.levels import Level

pytestmark = pytest.mark.system

# Ten times what is under way at once at most (a window of four batches of 1,024 entries and what is read ahead).
BACKLOG_RECORDS = 50_000
# A Python process with gRPC and its imports takes about 90 MB; everything else that it may hold at once is bounded.
MEGABYTES_MAX = 400


def peak_megabytes(level: Level, service: str) -> float:
    """Return the most memory that a service's process has had at once."""
    status = Path(f"/proc/{level.process.service_pid(service)}/status").read_text("ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_bounded_while_a_backlog_goes_up(make_levels: MakeLevels, seed: int) -> None:
    levels = make_levels(platforms=(COUNTY, CITY), split=(COUNTY, CITY))
    levels.start([levels.county])
    levels.register()
    source = RecordSource(levels.site, seed=seed, limit=BACKLOG_RECORDS)
    record_all(levels.gate, source, levels.history, seconds_max=90)
    levels.start([levels.city])
    levels.wait_current()
    peaks = {
        f"{service} of {level.platform}": peak_megabytes(level, service)
        for level in levels.all
        for service in ("weighing", "relay")
    }
    print(", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items()))
    assert max(peaks.values()) < MEGABYTES_MAX
    # Rows and totals of so many records are checked elsewhere; here they would take longer than the rest.
    levels.check(checks_rows=False)
