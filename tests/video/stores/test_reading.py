"""Store requirements: reading ranges, and reading on after connections that break."""

from collections.abc import Iterator

import pytest

from services.video.object_store import CHUNK_BYTES_MAX, ObjectMissingError, StoreUnavailableError, object_key
from services.video.s3_store import S3ObjectStore
from tests.faults.proxy import Fault, FaultProxy, Kind
from tests.video.stores import servers
from tests.video.stores.contents import content

MIB = 1024 * 1024
CLIP = content(5 * MIB + 12_345)
KEY = object_key(CLIP.digest)


@pytest.fixture
def filled(store: S3ObjectStore) -> S3ObjectStore:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    return store


RANGES = [
    (0, None),
    (0, 1),
    (0, MIB),
    (MIB - 1, 2),
    (3 * MIB, None),
    (4 * MIB - 7, 2 * MIB),
    (CLIP.size_bytes - 1, 1),
    (CLIP.size_bytes - 5, 1000),
    (CLIP.size_bytes, None),
    (CLIP.size_bytes + MIB, 5),
    (17, 0),
]


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_a_range_is_read(filled: S3ObjectStore, offset: int, length: int | None) -> None:
    end = CLIP.size_bytes if length is None else offset + length
    with filled.read(KEY, offset, length) as reader:
        size_bytes, chunks = reader.size_bytes, list(reader)
    assert (size_bytes, b"".join(chunks)) == (CLIP.size_bytes, CLIP.data[offset:end])


def test_chunks_are_full_and_never_too_large(filled: S3ObjectStore) -> None:
    with filled.read(KEY) as reader:
        sizes = [len(chunk) for chunk in reader]
    assert sizes == [CHUNK_BYTES_MAX] * 5 + [12_345]


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1)])
def test_a_range_is_not_negative(filled: S3ObjectStore, offset: int, length: int | None) -> None:
    with pytest.raises(ValueError, match="not negative"):
        filled.read(KEY, offset, length)


def test_a_reader_that_is_given_up_gives_no_more(filled: S3ObjectStore) -> None:
    reader = filled.read(KEY)
    first = next(reader)
    reader.close()
    reader.close()
    assert (len(first), list(reader)) == (CHUNK_BYTES_MAX, [])


def test_the_version_that_was_opened_is_read_to_its_end(filled: S3ObjectStore) -> None:
    reader = filled.read(KEY)
    chunks = [next(reader)]
    filled.put_rendition(KEY, b"something else", "video/mp4")
    assert b"".join([*chunks, *reader]) == CLIP.data


# Connections that break


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[FaultProxy]:
    if server.url.startswith("https"):
        pytest.skip("the proxy breaks plain connections only")
    made = FaultProxy(server.url.removeprefix("http://"))
    yield made
    made.close()


def _through(proxy: FaultProxy, server: servers.Server, store: S3ObjectStore, retries: int) -> S3ObjectStore:
    return servers.store(
        server,
        endpoint=f"http://{proxy.address}",
        bucket=store.address.bucket,
        retries=retries,
        read_timeout_seconds=2.0,
    )


@pytest.mark.parametrize("kind", [Kind.CUT_ANSWERS, Kind.SWALLOW])
@pytest.mark.parametrize("offset", [0, MIB + 5])
def test_reading_goes_on_where_a_connection_broke(
    filled: S3ObjectStore, server: servers.Server, proxy: FaultProxy, kind: Kind, offset: int
) -> None:
    proxy.plan([Fault(kind, 2 * MIB), Fault(kind, MIB)])
    with _through(proxy, server, filled, retries=2).read(KEY, offset) as reader:
        read = b"".join(reader)
    assert (read == CLIP.data[offset:], proxy.connection_count) == (True, 3)


def test_reading_gives_up_after_as_many_attempts_as_were_set(
    filled: S3ObjectStore, server: servers.Server, proxy: FaultProxy
) -> None:
    proxy.plan([Fault(Kind.CUT_ANSWERS, MIB)] * 9)
    reader = _through(proxy, server, filled, retries=2).read(KEY)
    with pytest.raises(StoreUnavailableError):
        b"".join(reader)
    assert proxy.connection_count == 3


def test_what_is_read_on_after_a_break_is_the_version_that_was_opened(
    filled: S3ObjectStore, server: servers.Server, proxy: FaultProxy
) -> None:
    proxy.plan([Fault(Kind.CUT_ANSWERS, 2 * MIB)])
    reader = _through(proxy, server, filled, retries=2).read(KEY)
    begin = next(reader)
    filled.put_rendition(KEY, b"something else", "video/mp4")
    assert begin + b"".join(reader) == CLIP.data


def test_an_object_that_is_deleted_while_a_connection_breaks_is_missing(
    filled: S3ObjectStore, server: servers.Server, proxy: FaultProxy
) -> None:
    # Each time: a break may be noticed before the first chunk is out, and then another connection has begun already.
    proxy.plan([Fault(Kind.CUT_ANSWERS, 2 * MIB)] * 9)
    reader = _through(proxy, server, filled, retries=9).read(KEY)
    next(reader)
    filled.delete(KEY)
    with pytest.raises(ObjectMissingError):
        b"".join(reader)


@pytest.mark.parametrize("kind", [Kind.CUT_PUSHES, Kind.SWALLOW])
def test_a_put_is_made_again_after_a_connection_broke(
    store: S3ObjectStore, server: servers.Server, proxy: FaultProxy, kind: Kind
) -> None:
    proxy.plan([Fault(kind, MIB), Fault(kind, 2 * MIB)])
    _through(proxy, server, store, retries=2).put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    with store.read(KEY) as reader:
        assert b"".join(reader) == CLIP.data


def test_a_put_that_broke_off_leaves_nothing(store: S3ObjectStore, server: servers.Server, proxy: FaultProxy) -> None:
    proxy.plan([Fault(Kind.CUT_PUSHES, MIB)] * 9)
    with pytest.raises(StoreUnavailableError):
        _through(proxy, server, store, retries=1).put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    with pytest.raises(ObjectMissingError):
        store.stat(KEY)
