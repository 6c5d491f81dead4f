"""What is written of the registry's word on access, and when."""

import threading
import time
from datetime import timedelta

import psycopg

from services.common.reasons import Reason
from tests.common.access_kept.keeping import PLATFORM, TOKEN, Start, credential, everything, keep, revoked, said
from tests.common.clocks import NOON
from tests.common.conftest import Events
from tests.common.served import WAIT_SECONDS


def test_a_time_alone_is_written_once_a_minute(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    for second in range(2, 62, 2):
        service.hear(said(NOON + timedelta(seconds=second)))
    service.written(NOON + timedelta(seconds=60))
    assert [one.as_of for one in service.store.whole] == [NOON]
    assert service.store.times == [NOON + timedelta(seconds=60)]


def test_a_stop_writes_the_newest_time(start: Start) -> None:
    service = keep(start, everything(NOON), said(NOON + timedelta(seconds=4)))
    stored = service.store.read(PLATFORM)
    assert stored is not None
    assert stored.as_of == NOON + timedelta(seconds=4)


def test_a_change_is_written_at_once(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    service.hear(said(NOON + timedelta(seconds=1), revoked()))
    service.written(NOON + timedelta(seconds=1))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED


def test_a_change_of_names_alone_rewrites_nothing(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    renamed = credential()
    renamed.display_name = "另一个名称"
    service.hear(said(NOON + timedelta(seconds=1), renamed))
    service.written(NOON + timedelta(seconds=1))
    assert len(service.store.whole) == 1


def test_a_new_time_is_never_put_on_what_a_slower_replica_wrote(start: Start) -> None:
    faster, slower = start(), start()
    for replica in (faster, slower):
        replica.hear(everything(NOON))
        replica.written(NOON)
    faster.hear(said(NOON + timedelta(seconds=1), revoked()))
    faster.written(NOON + timedelta(seconds=1))
    # It had not heard of the revocation, and ends after writing what it knew.
    slower.hear(said(NOON + timedelta(seconds=2), credential("t-9")))
    slower.written(NOON + timedelta(seconds=2))
    assert start().reason(TOKEN) is None
    faster.hear(said(NOON + timedelta(seconds=70)))
    faster.written(NOON + timedelta(seconds=70))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED


def test_a_database_that_fails_is_tried_again(start: Start, database_url: str, events: Events) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE access_statements RENAME TO elsewhere")
        service.hear(said(NOON + timedelta(seconds=1), revoked()))
        ends_at = time.monotonic() + WAIT_SECONDS
        while not events.named("access_not_kept"):
            assert time.monotonic() < ends_at
            threading.Event().wait(0.005)
        connection.execute("ALTER TABLE elsewhere RENAME TO access_statements")
    service.written(NOON + timedelta(seconds=1))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED
