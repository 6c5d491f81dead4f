"""The use case of operators: what the evidence store is, and what it enforces."""

from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.request import request_context
from services.video import refusals_reading as refusals
from services.video.convert import optional_timestamp
from services.video.evidence_standing import read_standing
from services.video.object_store import ObjectStore
from services.video.spool import Spool
from services.video.store import uploads as uploads_store
from services.video.store_watch import StoreWatch
from zhichao.video.v1 import service_pb2 as pb


class StatusHandlers:
    """The state of the evidence store."""

    def __init__(self, engine: Engine, objects: ObjectStore, spool: Spool, watch: StoreWatch) -> None:
        self._engine = engine
        self._objects = objects
        self._spool = spool
        self._watch = watch

    def get_store_status(self, request: pb.GetStoreStatusRequest) -> pb.GetStoreStatusResponse:
        """Say what the store is, what it enforces as tested last, and what was found. Asks the store nothing.

        Raises ServiceError OUTSIDE_SCOPE, DATABASE_UNAVAILABLE.
        """
        del request
        if request_context().principal.source_unit_ids is not None:
            raise refusals.not_for_sites()
        standing = read_standing(self._engine)
        usage = self._spool.usage()
        with translate_errors(), reading(self._engine) as pooled:
            staged_count = uploads_store.count_uploads(raw_connection(pooled))
        address = self._objects.address
        test = standing.lock_test
        trouble = self._watch.trouble
        return pb.GetStoreStatusResponse(
            endpoint=address.endpoint,
            bucket=address.bucket,
            is_reachable=self._watch.standing.is_reachable,
            lock_state=pb.LockState.ValueType(test.lock_state) if test is not None else pb.LOCK_STATE_UNSPECIFIED,
            lock_test_time=optional_timestamp(test.test_time if test is not None else None),
            lock_detail=test.detail if test is not None else "",
            object_count=standing.totals.object_count,
            object_bytes=standing.totals.object_bytes,
            missing_count=standing.troubles.missing_count,
            changed_count=standing.troubles.changed_count,
            scrub_complete_time=optional_timestamp(standing.scrub.scrub_complete_time),
            orphan_count=standing.troubles.orphan_count,
            reconcile_time=optional_timestamp(standing.reconcile_time),
            upload_count=usage.upload_count + staged_count,
            upload_bytes=usage.received_bytes,
            wanted_count=standing.troubles.wanted_count,
            trouble=pb.StoreTrouble.ValueType(trouble.kind.value if trouble is not None else 0),
            trouble_detail=trouble.detail if trouble is not None else "",
            trouble_time=optional_timestamp(trouble.seen_time if trouble is not None else None),
            unread_count=standing.troubles.unread_count,
            oldest_check_time=optional_timestamp(standing.oldest_check_time),
        )
