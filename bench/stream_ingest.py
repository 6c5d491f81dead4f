"""Measurement 1: weighings streamed into one county, against binary COPY of the same rows into tables like the same
ones.
"""

import statistics
import time
from pathlib import Path

import psycopg

from bench import harness
from bench.harness import COUNTY, Result
from cli.platform_process import PlatformProcess
from services.weighing.rows import COPY_COLUMNS

BATCH_RECORDS = 1_000
COPY_BATCH_RECORDS = 4_096
"""Rows per transaction of the yardstick: as many as the service's own transactions may take."""

ENTRY_COLUMNS = "origin, sequence, entry, leaf"


def run(records: int = 300_000, rounds: int = 5) -> Result:
    """Stream and copy in turn, so that both see the machine in the same mood; the ratio is taken round by round."""
    result = Result("stream_ingest", "records/s at least 0.6 of binary COPY")
    per_round = records // rounds
    requests = harness.make_requests(records, BATCH_RECORDS)
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        harness.register(county)
        harness.stream(county.address("weighing"), requests[:5], directory)
        requests = requests[5:]
        batches = per_round // BATCH_RECORDS
        streamed, copied = [], []
        with psycopg.connect(county.database_url("weighing")) as connection:
            connection.execute("CREATE TABLE bench_entries (LIKE journal_entries INCLUDING ALL)")
            connection.execute("CREATE TABLE bench_weighings (LIKE weighings INCLUDING ALL)")
            connection.commit()
            for number in range(rounds):
                part = requests[number * batches : (number + 1) * batches]
                first = harness.log_size(county.address("weighing"), COUNTY) + 1
                streamed.append(len(part) * BATCH_RECORDS / harness.stream(county.address("weighing"), part, directory))
                last = harness.log_size(county.address("weighing"), COUNTY)
                copied.append(_copy(connection, first, last))
    ratios = [ours / theirs for ours, theirs in zip(streamed, copied, strict=True)]
    result.figures = {
        "streamed_records_per_second": statistics.median(streamed),
        "copied_rows_per_second": statistics.median(copied),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }
    result.is_reached = result.figures["ratio"] >= 0.6
    return result


def _copy(connection: psycopg.Connection, first: int, last: int) -> float:
    contents = []
    for start in range(first, last + 1, COPY_BATCH_RECORDS):
        where = f"WHERE sequence BETWEEN {start} AND {min(start + COPY_BATCH_RECORDS - 1, last)} ORDER BY sequence"
        contents.append(
            (
                harness.copy_out(connection, f"SELECT {ENTRY_COLUMNS} FROM journal_entries {where}"),  # noqa: S608
                harness.copy_out(connection, f"SELECT {COPY_COLUMNS} FROM weighings {where}"),  # noqa: S608
            )
        )
    connection.commit()
    started = time.perf_counter()
    for entries, weighings in contents:
        harness.copy_in(connection, f"bench_entries ({ENTRY_COLUMNS})", entries)
        harness.copy_in(connection, f"bench_weighings ({COPY_COLUMNS})", weighings)
        connection.commit()
    return (last - first + 1) / (time.perf_counter() - started)


def memory(records: int = 500_000) -> Result:
    """Measurement 5: memory of the county's process while records stream in."""
    result = Result("memory", "flat, and at most 300 MB at its highest")
    step = records // 5
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        harness.register(county)
        pid = county.service_pid("weighing")
        megabytes = [harness.resident_bytes(pid)[0] / 1e6]
        for number in range(5):
            requests = harness.make_requests(step, BATCH_RECORDS, seed=harness.SEED + number)
            harness.stream(county.address("weighing"), requests, Path(directory))
            megabytes.append(harness.resident_bytes(pid)[0] / 1e6)
        peak = harness.resident_bytes(pid)[1] / 1e6
    result.figures = {
        "start_megabytes": megabytes[0],
        **{f"after_{(number + 1) * step}_megabytes": value for number, value in enumerate(megabytes[1:])},
        "peak_megabytes": peak,
    }
    result.is_reached = peak <= 300 and megabytes[-1] <= megabytes[1] * 1.1
    return result
