"""A bucket of another platform, named in the settings by mistake, has none of our objects. Nobody writes down for good
that they are missing.
"""

import io
from collections.abc import Callable

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video.domain import BytesState
from services.video.lock_following import LockFollower
from services.video.object_store import ObjectStore, StoreRefusedError
from services.video.outgoing_bytes import OutgoingBytes, Rendition
from services.video.s3_owner import OWNER_KEY
from services.video.store.custody import Named
from tests.video.harness import COUNTY
from tests.video.keeping.harness import Kept
from tests.video.stores.servers import harmful_client

OTHER = b"141026\n"


def of_another(kept: Kept) -> ObjectStore:
    """Open the bucket as the setting does once it is another platform's."""
    harmful_client(kept.server).put_object(kept.bucket, OWNER_KEY, io.BytesIO(OTHER), len(OTHER))
    return kept.store(owner=COUNTY)


def scrub(kept: Kept, store: ObjectStore) -> None:
    kept.parts = kept.build(store)
    kept.scrub()


def follow_locks(kept: Kept, store: ObjectStore) -> None:
    follower = LockFollower(kept.engine, store, kept.custody, kept.clock)
    # What is looked at, and then the look.
    follower.step()
    follower.step()


@pytest.fixture
def evidence(kept: Kept) -> Named:
    """Seal evidence whose bytes are in another bucket."""
    sealed = kept.seal(b"in our bucket")
    kept.destroy(sealed.digest)
    return sealed


@pytest.mark.parametrize("look", [scrub, follow_locks])
def test_nothing_is_called_missing(kept: Kept, evidence: Named, look: Callable[[Kept, ObjectStore], None]) -> None:
    with pytest.raises(StoreRefusedError, match="141026"):
        look(kept, of_another(kept))

    assert kept.actions(evidence) == []
    assert kept.state(evidence.digest) == BytesState.HELD


def test_whoever_reads_is_told_to_come_again(kept: Kept, evidence: Named) -> None:
    store = of_another(kept)
    outgoing = OutgoingBytes(kept.engine, COUNTY, kept.custody, store, kept.clock)

    with pytest.raises(ServiceError) as refused:
        next(outgoing.send(evidence.name, Rendition.ORIGINAL, 0, 0, "a test", is_download=False))

    assert refused.value.reason is Reason.OBJECT_STORE_UNAVAILABLE
    assert kept.actions(evidence) == []
