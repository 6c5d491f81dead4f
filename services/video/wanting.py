"""Decides which bytes are wanted from platforms below, soon after something new is known: a manifest, a suspected
weighing, a request, damage, another policy, a wish of the platform above. And tells whoever follows what is wanted or
held that it has changed.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from services.common.access.divisions import Divisions
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.video import convert
from services.video.domain import SubjectKind
from services.video.store import wanted as store
from services.video.store.wanted import Decided, ManifestRow
from services.video.wanted import Manifest, Request, UpstreamWish, Urgency, WantedPolicy, find_wish
from zhichao.video.v1 import evidence_pb2

WANTING_LOCK_KEY: Final = 0x77616E74
"""Advisory lock of the replica that decides: the bytes "want"."""

DECIDED_MAX: Final = 500
"""Bytes that are decided about in one transaction: some 50 ms, in which no request for the same bytes waits longer."""

MANIFESTS_MAX: Final = 100
"""Manifests of one digest that are looked at: the same bytes are sealed twice when a site sends them twice, and more
often only by somebody who tries."""

PAUSE_SECONDS: Final = 1.0
"""How often it is looked whether something is new: a look at an index that is empty then. The relay waits for it, so a
request of a province is two of these pauses longer on its way."""


LOOK_AGAIN_SECONDS: Final = 60.0
"""How often requests are looked through of which nothing followed: some thousand at most, of the last three months."""


class ObjectNews:
    """Counts changes of what is wanted or held, for followers in this process; those of others they see when they look
    by themselves.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """Changes so far."""
        with self._changed:
            return self._count

    def tell(self) -> None:
        """Wake followers: something is wanted or held, or is so no more."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Let followers look whether they still have to follow."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, seen: int, seconds_max: float, is_wanted: Callable[[], bool]) -> int:
        """Return the count once it differs from `seen`, or after some time, or when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._count != seen or not is_wanted(), seconds_max)
            return self._count


class Wanting:
    """Decides, step by step; one replica at a time (see BackgroundWork)."""

    def __init__(
        self,
        engine: Engine,
        policy: WantedPolicy,
        divisions: Callable[[], Divisions],
        clock: Clock,
        news: ObjectNews,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._divisions = divisions
        self._clock = clock
        self._news = news
        self._is_policy_known = False
        self._look_again_at = 0.0

    def step(self) -> float:
        """Decide about some bytes; return the seconds until the next step. Raises ServiceError DATABASE_UNAVAILABLE."""
        try:
            divisions = self._divisions()
        except ServiceError:
            # Who is below whom is not known before the registry has said it.
            return PAUSE_SECONDS
        has_more = False
        if (now := self._clock.monotonic()) >= self._look_again_at:
            self._look_again_at = now + LOOK_AGAIN_SECONDS
            with translate_errors(), self._engine.begin() as pooled:
                store.decide_requested_again(raw_connection(pooled), self._clock.now())
        if not self._is_policy_known:
            with translate_errors(), self._engine.begin() as pooled:
                has_more = store.decide_all_again(raw_connection(pooled), self._policy.text, DECIDED_MAX)
            self._is_policy_known = not has_more
        with translate_errors(), self._engine.begin() as pooled:
            count, has_changed = self._decide(raw_connection(pooled), divisions)
        if has_changed:
            self._news.tell()
        return 0.0 if has_more or count >= DECIDED_MAX else PAUSE_SECONDS

    def _decide(self, connection: RawConnection, divisions: Divisions) -> tuple[int, bool]:
        now = self._clock.now()
        undecided = store.lock_undecided(connection, now, DECIDED_MAX)
        if not undecided:
            return 0, False
        digests = [one.digest for one in undecided]
        manifests: defaultdict[bytes, list[Manifest]] = defaultdict(list)
        for digest, manifest in self._manifests(connection, digests):
            manifests[digest].append(manifest)
        requests: defaultdict[bytes, list[Request]] = defaultdict(list)
        for request in store.read_requests(connection, digests, now):
            requests[request.digest].append(Request(request.platform, request.until_time))
        wanted: list[Decided] = []
        others: list[bytes] = []
        for row in undecided:
            digest = row.digest
            upstream = upstream_wish(row.upstream_urgency, row.upstream_until_time, now)
            wish = find_wish(digest, row.state, manifests[digest], requests[digest], upstream, self._policy, divisions)
            if wish is None:
                others.append(digest)
            else:
                wanted.append(Decided(digest, wish.origin, wish.seal_time, int(wish.urgency), wish.until_time))
        store.put_decided(connection, wanted, others, now)
        return len(undecided), True

    def _manifests(self, connection: RawConnection, digests: Sequence[bytes]) -> list[tuple[bytes, Manifest]]:
        rows = store.read_manifests(connection, digests, MANIFESTS_MAX)
        records = {id(row): _records(row) for row in rows} if self._policy.asks_suspected else {}
        asked = sorted({record for of_row in records.values() for record in of_row})
        suspected = store.read_suspected(connection, asked) if asked else set()
        return [
            (
                row.digest,
                Manifest(row.origin, row.kind, row.seal_time, not suspected.isdisjoint(records.get(id(row), ()))),
            )
            for row in rows
        ]


def upstream_wish(urgency: int | None, until_time: datetime | None, now: datetime) -> UpstreamWish | None:
    """Return what the platform above has said that it wants, as it is kept; None when that does not count any more."""
    if urgency is None or until_time is None or until_time <= now:
        return None
    return UpstreamWish(Urgency(urgency), until_time)


def _records(row: ManifestRow) -> set[tuple[str, str, str]]:
    """Return the records of weighings that a manifest proves: origin, source unit, record id."""
    # It was parsed when it was projected.
    message = evidence_pb2.Evidence.FromString(row.content)
    return {
        (row.origin, row.source_unit_id, subject.subject_id)
        for subject in convert.subjects(message.subjects)
        if subject.kind == SubjectKind.RECORD
    }
