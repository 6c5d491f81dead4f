"""What the spool takes in where the disk has less room than its limit: what others will still write counts."""

import shutil
from collections import namedtuple
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.spool import Spool, SpoolKey
from tests.video.harness import since_now

KIB = 1024
ONE, OTHER = SpoolKey("unit-1", "one"), SpoolKey("unit-2", "other")


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """Open a spool on a disk of 5 KiB, of which its files take some; its limit is far above."""
    directory = tmp_path / "spool"
    usage = namedtuple("usage", ["total", "used", "free"])

    def usage_of(_: Path) -> usage:
        used = sum(one.stat().st_size for one in directory.iterdir())
        return usage(5 * KIB, used, 5 * KIB - used)

    monkeypatch.setattr(shutil, "disk_usage", usage_of)
    opened = Spool(directory, 1024 * KIB, timedelta(hours=24), since_now())
    opened.start()
    yield opened
    opened.stop()


def refused(spool: Spool, key: SpoolKey, size: int) -> Reason:
    """Open an upload that must be refused."""
    with pytest.raises(ServiceError) as error:
        spool.open(key, bytes(32), size)
    return error.value.reason


def test_two_that_do_not_fit_together_are_not_both_taken(spool: Spool) -> None:
    with spool.open(ONE, bytes(32), 4 * KIB) as upload:
        assert refused(spool, OTHER, 4 * KIB) is Reason.UPLOAD_SPACE_EXHAUSTED
        upload.append(bytes(3 * KIB))
        # What is written is not counted a second time.
        with spool.open(OTHER, bytes(32), KIB):
            assert refused(spool, SpoolKey("unit-3", "third"), 1) is Reason.UPLOAD_SPACE_EXHAUSTED
        upload.append(bytes(KIB))


def test_what_broke_off_holds_its_bytes_only(spool: Spool) -> None:
    with spool.open(ONE, bytes(32), 4 * KIB) as upload:
        upload.append(bytes(KIB))

    with spool.open(OTHER, bytes(32), 4 * KIB):
        assert refused(spool, ONE, 4 * KIB) is Reason.UPLOAD_SPACE_EXHAUSTED
