"""Measurement 2: one relay hop and the three-level catch-up of waiting records, against PostgreSQL's logical
replication of the
same rows between clusters of the same kind.
"""

import time
from pathlib import Path

import psycopg

from bench import harness
from bench.harness import CITY, COUNTY, ENTRY_COLUMNS, PROVINCE, Result
from bench.stream_ingest import BATCH_RECORDS
from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from cli.postgres import EmbeddedPostgres
from cli.simulate.registration import register_below
from services.common.database import upgrade
from services.weighing.app import MIGRATIONS
from services.weighing.rows import COPY_COLUMNS
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc

COPY_BATCH_RECORDS = 4_096

LOOK_SECONDS = 0.05
"""Between two looks whether all has arrived: looking takes time from those who are measured."""


def run(records: int = 200_000) -> Result:
    """Fill a county that has no upstream; then let one level, and two levels, catch up."""
    result = Result("catch_up", "records/s at least 1.0 of logical replication, for one hop and for three levels")
    with harness.scratch() as directory:
        rows = _fill(directory / "county", records, directory)
        result.figures["hop_records_per_second"] = records / _relay(directory, [COUNTY, CITY])
        result.figures["three_levels_records_per_second"] = records / _relay(directory, [COUNTY, CITY, PROVINCE])
        result.figures["replication_hop_records_per_second"] = records / _replicate(directory, rows, records, 2)
        result.figures["replication_three_records_per_second"] = records / _replicate(directory, rows, records, 3)
    figures = result.figures
    figures["hop_ratio"] = figures["hop_records_per_second"] / figures["replication_hop_records_per_second"]
    figures["three_levels_ratio"] = (
        figures["three_levels_records_per_second"] / figures["replication_three_records_per_second"]
    )
    result.is_reached = min(figures["hop_ratio"], figures["three_levels_ratio"]) >= 1
    return result


def _fill(directory: Path, records: int, scratch: Path) -> list[tuple[bytes, bytes]]:
    """Fill a county with weighings and return its rows in binary COPY form."""
    with PlatformProcess(COUNTY, directory) as county:
        token = harness.register(county)
        harness.stream(county.address("weighing"), token, harness.make_requests(records, BATCH_RECORDS), scratch)
        last = harness.log_size(county, COUNTY)
        with psycopg.connect(county.database_url("weighing")) as connection:
            return harness.copied_rows(connection, 1, last, COPY_BATCH_RECORDS)


def _relay(directory: Path, levels: list[str]) -> float:
    """Return the seconds from the county's start until the top holds everything. Upper levels are new and run
    already.
    """
    platforms: list[PlatformProcess] = []
    try:
        upstream = ""
        certificates = make_certificates(directory / "pki", levels)
        for code in reversed(levels[1:]):
            platform = PlatformProcess(
                code, directory / f"{code}-of-{len(levels)}", upstream=upstream, tls_directory=certificates[code]
            ).start()
            platforms.append(platform)
            _register_below(platform, levels)
            upstream = platform.peer_address
        county = PlatformProcess(COUNTY, directory / "county", upstream=upstream, tls_directory=certificates[COUNTY])
        # One connection for all looks, and as many looks as the yardstick takes: to connect anew costs milliseconds.
        with platforms[0].connect("weighing") as top:
            county.launch()
            platforms.append(county)
            harness.wait_until(lambda: harness.size_at(top, COUNTY) > 0, "the first batch", LOOK_SECONDS)
            started_size = harness.size_at(top, COUNTY)
            started = time.perf_counter()
            county.wait_until_serving()
            wanted = harness.log_size(county, COUNTY)
            harness.wait_until(lambda: harness.size_at(top, COUNTY) >= wanted, "catching up", LOOK_SECONDS)
            seconds = time.perf_counter() - started
        # What had arrived when the clock started is not counted twice.
        return seconds * wanted / (wanted - started_size)
    finally:
        for platform in reversed(platforms):
            platform.stop()


def _register_below(platform: PlatformProcess, levels: list[str]) -> None:
    """Let the level below in; nobody else is."""
    lower = levels[levels.index(platform.platform) - 1]
    with platform.connect("registry") as channel:
        register_below(registry_grpc.RegistryServiceStub(channel), lower, platform.platform)


def _replicate(directory: Path, rows: list[tuple[bytes, bytes]], records: int, levels: int) -> float:
    """Return the seconds that subscriptions need for the same rows, which wait in the publisher's log when they
    begin.
    """
    servers = [
        EmbeddedPostgres(directory / f"replication-{levels}-{number}", databases=["weighing"])
        for number in range(levels)
    ]
    try:
        for server in servers:
            server.start()
            server.query("ALTER SYSTEM SET wal_level = logical")
            server.stop()
            server.start()
            upgrade(server.url("weighing"), MIGRATIONS)
            server.query("CREATE PUBLICATION records FOR TABLE journal_entries, weighings", database="weighing")
        for number in range(1, levels):
            source = psycopg.conninfo.make_conninfo(servers[number - 1].url("weighing"))
            # The slot is created first, so that the rows written below wait in the log for the subscriber.
            with psycopg.connect(servers[number - 1].url("weighing"), autocommit=True) as connection:
                connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"hop_{number}",))
            with psycopg.connect(servers[number].url("weighing"), autocommit=True) as connection:
                connection.execute(
                    (
                        f"CREATE SUBSCRIPTION hop_{number} CONNECTION '{source}' PUBLICATION records WITH"
                        f" (enabled = false, create_slot = false, copy_data = false, slot_name = 'hop_{number}')"
                    ).encode()
                )
        with psycopg.connect(servers[0].url("weighing")) as connection:
            for entries, weighings in rows:
                harness.copy_in(connection, f"journal_entries ({ENTRY_COLUMNS})", entries)
                harness.copy_in(connection, f"weighings ({COPY_COLUMNS})", weighings)
                connection.commit()
        with psycopg.connect(servers[-1].url("weighing"), autocommit=True) as top:
            started = time.perf_counter()
            for number in range(1, levels):
                with psycopg.connect(servers[number].url("weighing"), autocommit=True) as connection:
                    connection.execute(f"ALTER SUBSCRIPTION hop_{number} ENABLE".encode())

            def has_all() -> bool:
                row = top.execute("SELECT max(sequence) FROM weighings").fetchone()
                return row is not None and (row[0] or 0) > records * 0.999 and _count(top) >= records * 0.99

            harness.wait_until(has_all, "replication", LOOK_SECONDS)
            return time.perf_counter() - started
    finally:
        for server in servers:
            server.stop()


def _count(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM weighings").fetchone()
    return row[0] if row else 0
