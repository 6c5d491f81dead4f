"""Which custody events go into a bundle when it has no room for all of them: views go first, and the oldest of them."""

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Final

from cli.evidence_bundle.index import CUSTODY_MAX
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb

_PREFIX: Final = "CUSTODY_ACTION_"

_WEIGHT_OF_VIEW: Final = 0
_WEIGHT_OF_USE: Final = 1
_WEIGHT_OF_OTHERS: Final = 2
_WEIGHT_OF_THIS_EXPORT: Final = 3

_USES: Final = frozenset(
    {
        custody_pb2.CUSTODY_ACTION_DOWNLOADED,
        custody_pb2.CUSTODY_ACTION_EXPORTED,
        custody_pb2.CUSTODY_ACTION_SHARED,
    }
)
"""What changes nothing about the evidence, and whoever may look at it may do as often as he likes."""


class CustodyChoice:
    """Keeps the events that a bundle has room for, and counts the others.

    Views are left out before downloads, links and exports, these before everything else, and the oldest first. That the
    evidence went into this bundle is always kept: there is one such event for each piece.
    """

    def __init__(self, platform: str, bundle_id: str) -> None:
        self._platform = platform
        self._bundle_id = bundle_id
        # The event that would go next stands first. Origin and sequence name an event, so that no two are the same.
        self._kept: list[tuple[int, int, str, int, pb.HeldCustodyEvent]] = []
        self._left_out: Counter[str] = Counter()

    def offer(self, held: pb.HeldCustodyEvent) -> None:
        """Keep an event, or another one in its place."""
        one = (self._weight(held), held.event.event_time.ToNanoseconds(), held.origin, held.sequence, held)
        if len(self._kept) < CUSTODY_MAX:
            heapq.heappush(self._kept, one)
        else:
            left_out = heapq.heappushpop(self._kept, one)[-1]
            self._left_out[_action_name(left_out.event.action)] += 1

    @property
    def kept(self) -> list[pb.HeldCustodyEvent]:
        """The events that go into the bundle, by platform and in the order of its log."""
        return sorted((one[-1] for one in self._kept), key=lambda held: (held.origin, held.sequence))

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many were left out, by what was done."""
        return dict(sorted(self._left_out.items()))

    def _weight(self, held: pb.HeldCustodyEvent) -> int:
        action = held.event.action
        if action == custody_pb2.CUSTODY_ACTION_VIEWED:
            return _WEIGHT_OF_VIEW
        if action not in _USES:
            return _WEIGHT_OF_OTHERS
        is_export = action == custody_pb2.CUSTODY_ACTION_EXPORTED and held.event.reference_id == self._bundle_id
        return _WEIGHT_OF_THIS_EXPORT if is_export and held.origin == self._platform else _WEIGHT_OF_USE


def _action_name(action: int) -> str:
    value = custody_pb2.CustodyAction.DESCRIPTOR.values_by_number.get(action)
    # One of a newer release has a number only.
    return str(action) if value is None else value.name.removeprefix(_PREFIX)
