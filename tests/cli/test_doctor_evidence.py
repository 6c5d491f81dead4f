"""What `zhichao doctor` says of the evidence store: a real one, and what may be wrong with it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from cli.doctor import evidence_kept, evidence_store
from cli.doctor.finding import Finding, Level
from services.common.china_time import day_in_china
from services.common.clock import SystemClock
from services.common.database import create_engine
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.video.metrics import VideoMetrics
from services.video.object_store import LockState, StoreError, StoreFullError, StoreRefusedError, WrongCredentialsError
from services.video.spool import Spool
from services.video.store.keeping import LockTestRow, mark_reconciled, put_lock_test, put_orphans
from services.video.store_troubles import StoreWrites
from services.video.store_watch import StoreWatch
from tests.cli.doctor_subject import closed_port, subject
from tests.cli.verified_journals import COUNTY
from tests.conftest import Databases
from tests.video.harness import SCHEMA, migrate
from tests.video.stores.servers import SeaweedServer, store

BUCKET = "doctor"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """Run an S3 server with a bucket as the service makes it."""
    running = SeaweedServer(tmp_path_factory.mktemp("store"))
    running.start()
    made = store(running, bucket=BUCKET)
    made.ensure_bucket()
    made.close()
    yield running
    running.stop()


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """Return the URL of a video service's database."""
    borrowed = databases.borrow(SCHEMA, migrate)
    yield borrowed
    databases.give_back(SCHEMA, borrowed)


def environment(server: SeaweedServer, url: str, **changes: str) -> dict[str, str]:
    """Return the settings of a video service."""
    return {
        "ZHICHAO_VIDEO_DATABASE_URL": url,
        "ZHICHAO_VIDEO_S3_ENDPOINT": server.url,
        "ZHICHAO_VIDEO_S3_BUCKET": BUCKET,
        "ZHICHAO_VIDEO_S3_ACCESS_KEY_FILE": str(server.access_key_file),
        "ZHICHAO_VIDEO_S3_SECRET_KEY_FILE": str(server.secret_key_file),
        "ZHICHAO_VIDEO_SPOOL_DIRECTORY": "/nowhere",
        **changes,
    }


def look(server: SeaweedServer, url: str, **changes: str) -> Finding:
    """Look at a store."""
    found = subject(environment=environment(server, url, **changes), services=("video",))
    return evidence_store.check_store(found)


def note_test(url: str, state: LockState, age: timedelta = timedelta()) -> None:
    """Note a self-test of the locks."""
    with psycopg.connect(url) as connection:
        moment = datetime.now(UTC) - age
        put_lock_test(connection, LockTestRow(moment, state.value, "as tested"), moment)


def test_a_store_that_is_well_is_told_with_what_it_keeps(server: SeaweedServer, url: str) -> None:
    note_test(url, LockState.ENFORCED)

    found = look(server, url)

    assert (found.level, found.message.english) == (
        Level.OK,
        f"{BUCKET} at {server.url}: versions, locks enforced, clock +0 s",
    )


@pytest.mark.parametrize(
    ("state", "lock", "level"),
    [
        (LockState.NOT_ENFORCED, "use", Level.FAIL),
        (LockState.UNSUPPORTED, "use", Level.WARN),
        (LockState.UNSUPPORTED, "require", Level.FAIL),
        (LockState.UNKNOWN, "use", Level.WARN),
        (None, "use", Level.WARN),
    ],
)
def test_locks_are_as_the_self_test_found_them(
    server: SeaweedServer, url: str, state: LockState | None, lock: str, level: Level
) -> None:
    if state is not None:
        note_test(url, state)

    assert look(server, url, ZHICHAO_VIDEO_OBJECT_LOCK=lock).level is level


def test_a_self_test_of_long_ago_is_a_warning(server: SeaweedServer, url: str) -> None:
    note_test(url, LockState.ENFORCED, timedelta(days=3))

    assert look(server, url).level is Level.WARN


def check(url: str) -> Finding:
    """Look at what is kept."""
    return evidence_kept.check_evidence(
        subject(environment={"ZHICHAO_VIDEO_DATABASE_URL": url}, services=("video",), database_urls={"video": url})
    )


def keep(url: str, *, checked: timedelta = timedelta(), compared: timedelta | None = timedelta()) -> None:
    """Note an object that was checked so long ago, and a comparison."""
    now = datetime.now(UTC)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO objects (digest, size_bytes, state, stored_time) VALUES ('x', 9, 1, %s)", (now - checked,)
        )
        if compared is not None:
            mark_reconciled(connection, now - compared)


def test_what_is_kept_well_is_told_with_its_age(url: str) -> None:
    keep(url, checked=timedelta(days=3, hours=1))

    found = check(url)

    assert (found.level, found.message.english) == (
        Level.OK,
        f"nothing is lost or changed, all read within 4 days, compared {day_in_china(datetime.now(UTC))}",
    )


def test_what_is_missing_is_a_failure_with_its_number(url: str) -> None:
    keep(url)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO objects (digest, size_bytes, state, damage) VALUES ('y', 9, 4, 11)")

    found = check(url)

    assert found.level is Level.FAIL
    assert "1 objects are missing, 0 are changed" in found.message.english


@pytest.mark.parametrize(
    ("checked", "compared", "told"),
    [
        (timedelta(), None, "never compared"),
        (timedelta(), timedelta(days=4, hours=1), "compared 4 days ago"),
        (timedelta(days=46, hours=1), timedelta(), "read 46 days ago and not since"),
    ],
)
def test_what_nobody_looks_at_any_more_is_a_warning(
    url: str, checked: timedelta, compared: timedelta | None, told: str
) -> None:
    keep(url, checked=checked, compared=compared)

    found = check(url)

    assert found.level is Level.WARN
    assert told in found.message.english


def test_what_the_store_cannot_read_is_a_warning(url: str) -> None:
    keep(url)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE objects SET unread_count = 1, unread_retry_time = now()")

    found = check(url)

    assert found.level is Level.WARN
    assert "1 objects could not be read" in found.message.english


def test_many_objects_of_nobody_are_a_warning(url: str) -> None:
    keep(url)
    for count, level in ((100, Level.OK), (101, Level.WARN)):
        with psycopg.connect(url) as connection:
            put_orphans(connection, [(bytes([one]), 9) for one in range(count)], datetime.now(UTC))

        assert check(url).level is level


def test_a_database_that_cannot_be_asked_is_told_elsewhere() -> None:
    assert check(f"postgresql://nobody@{closed_port()}/none").level is Level.SKIP
    assert evidence_kept.check_evidence(subject()).level is Level.SKIP


@pytest.mark.parametrize(
    ("refusal", "told", "remedy"),
    [
        (StoreFullError("no room left"), "full", "make room in the store"),
        (WrongCredentialsError("AccessDenied"), "wrong_credentials", "correct the key files"),
        (StoreRefusedError("HTTP 418"), "refused", "see the log of the store"),
    ],
)
def test_a_store_that_answers_and_takes_nothing_is_a_failure(
    server: SeaweedServer, url: str, tmp_path: Path, refusal: StoreError, told: str, remedy: str
) -> None:
    note_test(url, LockState.ENFORCED)
    clock = SystemClock()
    writes = StoreWrites(clock)
    engine = create_engine(url, pool_size=2, application_name="test")
    asked = store(server, bucket=BUCKET)
    metrics = Metrics("video", COUNTY)
    spool = Spool(tmp_path, 0, timedelta(), clock)
    VideoMetrics(metrics, engine).watch(spool, 0, StoreWatch(engine, asked, clock, writes))
    shown = MetricsServer(metrics, "127.0.0.1:0")
    shown.start()
    try:
        assert shown.address is not None
        running = subject(
            environment=environment(server, url), services=("video",), metrics_addresses={"video": shown.address}
        )
        assert evidence_store.check_store(running).level is Level.OK
        writes.refused(refusal)
        for group in metrics._groups.values():
            group._read_at = None

        found = evidence_store.check_store(running)
    finally:
        shown.stop()
        asked.close()
        engine.dispose()

    assert found.level is Level.FAIL
    assert f"the video service was refused: {told}" in found.message.english
    assert remedy in found.remedy.english


@pytest.mark.parametrize(
    ("changes", "told", "remedy"),
    [
        ({"ZHICHAO_VIDEO_S3_BUCKET": "absent"}, "has no bucket absent", "if it was never there"),
        ({"ZHICHAO_VIDEO_S3_ENDPOINT": "closed"}, "nothing answers", "start the store"),
        ({"ZHICHAO_VIDEO_S3_SECRET_KEY_FILE": "wrong"}, "refuses the access key", "correct the key files"),
        ({"ZHICHAO_VIDEO_S3_CA_FILE": "wrong"}, "", "correct ZHICHAO_VIDEO_S3_CA_FILE"),
    ],
)
def test_each_way_of_being_away_has_its_own_remedy(
    server: SeaweedServer, url: str, tmp_path: Path, changes: dict[str, str], told: str, remedy: str
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-key\n", "ascii")
    values = {"closed": f"http://{closed_port()}", "wrong": str(wrong)}
    placed = {name: values.get(value, value) for name, value in changes.items()}
    if "ZHICHAO_VIDEO_S3_CA_FILE" in placed:
        placed["ZHICHAO_VIDEO_S3_ENDPOINT"] = server.url.replace("http:", "https:")

    found = look(server, url, **placed)

    assert found.level is Level.FAIL
    assert told in found.message.english
    assert remedy in found.remedy.english


def test_a_clock_that_is_off_is_noticed(server: SeaweedServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    note_test(url, LockState.ENFORCED)
    for seconds, level in ((60, Level.WARN), (-3600, Level.FAIL)):
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        monkeypatch.setattr(
            evidence_store, "_date_header", lambda *_, at=moment: at.strftime("%a, %d %b %Y %H:%M:%S GMT")
        )

        assert look(server, url).level is level


def test_a_store_that_stops_with_its_platform_is_no_failure(server: SeaweedServer, url: str) -> None:
    stopped = subject(environment=environment(server, url), services=("video",), is_running=False)

    assert evidence_store.check_store(stopped).level is Level.SKIP


def test_a_container_of_another_service_has_none() -> None:
    assert evidence_store.check_store(subject()).level is Level.SKIP
