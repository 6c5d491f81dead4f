"""Which bytes of evidence a platform wants from the platforms below it, how urgently, and when it asks again. Pure."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from services.common.access.divisions import Divisions
from services.video.domain import BytesState, EvidenceKind

FRESH_SECONDS: Final = 3_600
"""Evidence is fresh within an hour of its seal (the contract): who looks at a suspected overload does so by then."""

RETRY_SECONDS_MIN: Final = 5.0
"""First pause after a platform below has declined: it may be waiting for the bytes itself, from further below."""

RETRY_SECONDS_MAX: Final = 600.0
"""Longest such pause. Who comes to hold the bytes offers them without being asked; only one that was restarted
meanwhile waits to be asked, ten minutes at most."""

UPSTREAM_SECONDS: Final = 6 * 3_600.0
"""How long bytes are wanted because the platform above wants them, after it has said so last. It asks again for what it
does not get, after ten minutes at most, or after an hour where it waits for 100,000 objects (DECLINED_LISTED_MAX); and
its link may be down for some hours."""

SAMPLE_PARTS: Final = 1 << 32
"""Parts into which samples are drawn: 32 bits of a digest."""


class Urgency(IntEnum):
    """Why bytes are wanted, numbered as TransferUrgency of the contract. What is kept is REQUESTED, or FRESH for all
    that is due by the policy: how fresh it is shows when somebody looks.
    """

    REQUESTED = 1
    FRESH = 2
    BACKFILL = 3


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as far as it matters whether its bytes are wanted."""

    origin: str
    kind: int
    seal_time: datetime
    # Whether it proves a suspected overload, as far as is known.
    is_suspected: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request for bytes that has not ended: who asked, and until when."""

    platform: str
    until_time: datetime


@dataclass(frozen=True, slots=True)
class UpstreamWish:
    """That the platform above wants bytes, for whatever reason: how urgently, and until when that counts."""

    urgency: Urgency
    until_time: datetime


@dataclass(frozen=True, slots=True)
class Wish:
    """That bytes are wanted: on account of which manifest, how urgently, until when."""

    origin: str
    seal_time: datetime
    urgency: Urgency
    until_time: datetime | None


@dataclass(frozen=True, slots=True)
class WantedPolicy:
    """What a platform wants without being asked: words of `config.EAGER_WORDS`, and of a thousand clips how many."""

    platform: str
    words: frozenset[str]
    sample_permille: int

    @property
    def text(self) -> str:
        """What it is, to be compared with what it was."""
        sample = f"{self.sample_permille}/1000" if "sampled" in self.words else ""
        return " ".join([*sorted(self.words), sample]).strip()

    @property
    def asks_suspected(self) -> bool:
        """Whether it matters what is known of weighings."""
        return "suspected" in self.words

    def is_due(self, digest: bytes, manifest: Manifest) -> bool:
        """Tell whether bytes are wanted on account of a manifest though nobody has asked for them."""
        return (
            "all" in self.words
            or ("photos" in self.words and manifest.kind == EvidenceKind.PHOTO)
            or ("suspected" in self.words and manifest.is_suspected)
            or (
                "sampled" in self.words
                and manifest.kind == EvidenceKind.CLIP
                and is_sampled(digest, self.platform, self.sample_permille)
            )
        )


def is_sampled(digest: bytes, platform: str, permille: int) -> bool:
    """Tell whether bytes are in a platform's sample: the same bytes always; each platform has a sample of its own."""
    drawn = hashlib.sha256(b"zhichao sample " + platform.encode() + digest, usedforsecurity=False).digest()
    return int.from_bytes(drawn[:4]) < SAMPLE_PARTS * permille // 1_000


def find_wish(
    digest: bytes,
    state: int,
    manifests: Iterable[Manifest],
    requests: Collection[Request],
    upstream: UpstreamWish | None,
    policy: WantedPolicy,
    divisions: Divisions,
) -> Wish | None:
    """Return why bytes are wanted that are not well here; None when they are not, or nobody below can have them.

    A request counts if it is this platform's own or one of a platform above: what a platform below has asked for comes
    to that one, and no further. What the platform above wants it gets from here and from nowhere else: that counts
    whatever the policy of this one.
    """
    own = policy.platform
    below = [one for one in manifests if one.origin != own and divisions.is_within(one.origin, own)]
    if not below:
        return None
    asking = [one.until_time for one in requests if one.platform == own or not divisions.is_within(one.platform, own)]
    if upstream is not None and upstream.urgency is Urgency.REQUESTED:
        asking.append(upstream.until_time)
    due = [one for one in below if policy.is_due(digest, one)]
    first = min(due or below, key=lambda one: (one.seal_time, one.origin))
    if asking:
        return Wish(first.origin, first.seal_time, Urgency.REQUESTED, max(asking))
    # What was deleted here after its retention, or is gone below, is wanted only if somebody else wants it.
    is_due = bool(due) and state in (BytesState.BELOW, BytesState.WANTED)
    if is_due or state == BytesState.DAMAGED:
        return Wish(first.origin, first.seal_time, Urgency.FRESH, None)
    if upstream is not None:
        return Wish(first.origin, first.seal_time, Urgency.FRESH, upstream.until_time)
    return None


def next_upstream_wish(known: UpstreamWish | None, urgency: int, now: datetime) -> UpstreamWish | None:
    """Return the wish to keep when the platform above says once more that it wants bytes; None while the one that is
    known says the same for long enough, so that what is repeated is not written each time.
    """
    # What is due by a policy is FRESH here: how fresh it is shows when somebody looks.
    kept = Urgency.REQUESTED if urgency == Urgency.REQUESTED else Urgency.FRESH
    renewed_at = now + timedelta(seconds=UPSTREAM_SECONDS / 2)
    if known is not None and known.urgency is kept and known.until_time > renewed_at:
        return None
    return UpstreamWish(kept, now + timedelta(seconds=UPSTREAM_SECONDS))


def urgency_at(urgency: Urgency, seal_time: datetime, now: datetime) -> Urgency:
    """Return how urgent a wish is now."""
    if urgency is Urgency.REQUESTED:
        return urgency
    return Urgency.FRESH if seal_time > now - timedelta(seconds=FRESH_SECONDS) else Urgency.BACKFILL


def retry_time(decline_count: int, now: datetime) -> datetime:
    """Return when bytes are asked for again that were declined so often, or came and were others."""
    exponent = min(max(decline_count - 1, 0), 16)  # beyond any maximum
    return now + timedelta(seconds=min(RETRY_SECONDS_MIN * 2**exponent, RETRY_SECONDS_MAX))


def origins_within(platform: str, origins: Iterable[str], own: str, divisions: Divisions) -> list[str]:
    """Return the origins whose evidence may come from a platform below; empty if that is not below this one."""
    if platform == own or not divisions.is_within(platform, own):
        return []
    return sorted(one for one in origins if divisions.is_within(one, platform))


def another_origin(
    platform: str, manifests: Sequence[Manifest], holders: Collection[str], own: str, divisions: Divisions
) -> Manifest | None:
    """Return a manifest of the same bytes on whose account some other platform below may be asked for them.

    None when there is none: `holders` are the platforms that have the bytes by their own newest word. Two that have
    lost them are not asked in turns for ever.
    """
    below = [one for one in holders if one != own and divisions.is_within(one, own)]
    others = [
        one
        for one in manifests
        if not divisions.is_within(one.origin, platform)
        and any(divisions.is_within(one.origin, holder) for holder in below)
    ]
    return min(others, key=lambda one: (one.seal_time, one.origin), default=None)
