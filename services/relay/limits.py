"""The named limits and times of the relay. Each says where its number comes from."""

from dataclasses import dataclass
from typing import Final

PROTOCOL_VERSIONS: Final = (1, 2)
"""Versions of the protocol spoken here; one minor release of skew means at most two."""

PROTOCOL_VERSION_DOWNLINK: Final = 2
"""From this version on the upper platform sends down: addressed entries, cosignatures, the caller's own entries."""

SENDER_THREADS: Final = 4
"""Logs pushed at once: twice the two cores that a small platform has, since a push mostly waits for the other side."""

WINDOW_BATCHES_MAX: Final = 8
"""Pushes of one log under way at once: four that the receiver commits in one transaction, and four that it prepares
meanwhile (bench/catch_up: a fifth faster than with four). They hold 3 MiB of common entries, and 32 MiB at most."""

WAITING_BATCHES_MAX: Final = 2
"""Batches read ahead of the window: one being filled with what comes in, one ready to go."""

APPEND_ADDRESSED_SECONDS_MAX: Final = 30.0
"""Longest answer to a batch of addressed entries by a service of this platform: 256 entries take some 100 ms, and it
may wait for the own log's row behind a backlog that commits."""

ADDRESSED_POSITIONS_SECONDS: Final = 10.0
"""How long what a service says of its addressed entries is told in handshakes: a province's 130 links renew every 15 s,
and the service counts its entries each time. It only lets lower platforms see that a follow has fallen silent."""

FOLLOWED_POSITIONS_MAX: Final = 65
"""Positions with which a stream may be followed: of 64 platforms above, and the own log
(services.journal.limits.ADDRESSED_ORIGINS_MAX)."""

FOLLOWED_LOGS_MAX: Final = 512
"""Logs whose way down is noted: eight streams with 64 platforms above each. An upstream may name any number."""

REFUSED_LOGS_MAX: Final = 64
"""Logs of one stream that may be refused at once, as many as are held of platforms above
(services.journal.limits.ADDRESSED_ORIGINS_MAX)."""

COSIGNED_CHECKPOINTS_MAX: Final = 100
"""Checkpoints in one message: some 60 KB, and 1.6 MB if each is as long as a note may be."""

RESTORE_BATCH_SECONDS_MAX: Final = 60.0
"""Longest answer to a batch of own entries that are brought back: a full one takes about a second to project."""

READ_BACK_SECONDS_MAX: Final = 600.0
"""Longest reading of own entries from the upstream in one call: some million; the next call goes on there."""

LOCAL_CALL_SECONDS_MAX: Final = 5.0
"""Longest answer to a short call to a service of this platform: a thousand times what it takes."""

COSIGNATURE_INTERVAL_SECONDS: Final = 1.0
"""Pause between two hand-overs of cosignatures: each is a commit, and only the newest of a log says anything new."""

COSIGNATURE_LOGS_MAX: Final = 10_000
"""Logs whose cosignature may wait: as many as a journal holds (services.journal.limits.LOGS_MAX)."""

COSIGNATURE_NOTE_CHARACTERS_MAX: Final = 16_384
"""Characters of one note that comes down (services.journal.notes.NOTE_BYTES_MAX); common ones have some 600."""

COSIGNATURE_NOTES_MAX: Final = 4
"""Notes of one log that may wait: the upstream and each platform above it, three in all, may have cosigned another
size."""

DOWNSTREAM_LINKS_MAX: Final = 1_000
"""Lower platforms remembered for the status: a province has some 130 divisions below it."""

SENT_LOGS_MAX: Final = 512
"""Logs that the status names as sent to one lower platform: eight streams with 64 platforms above each."""

EVIDENCE_STREAM: Final = "video"
"""The stream whose service keeps evidence; bytes move only where both sides have it."""

EVIDENCE_PUSHES_MAX: Final = 3
"""Objects pushed at once: one alone waits for the receiver's store after its last byte. They hold some 3 MiB."""

EVIDENCE_WAIT_SECONDS_MAX: Final = 600.0
"""How long a push waits for the cap before it ends in good order, and begins anew: the receiver keeps room for the
whole object until then, and ends after 15 minutes one that brings nothing, which looks like a fault."""

EVIDENCE_STORED_BYTES_PER_SECOND_MIN: Final = 4 * 1024 * 1024
"""How fast an upstream stores an object at least, after its last byte: a twentieth of what one disk does."""

EVIDENCE_LISTED_MAX: Final = 64
"""Objects that are taken of one message of an upstream that follows the contract or not (WatchWantedResponse)."""

EVIDENCE_DECLINED_MAX: Final = 10_000
"""Objects that are remembered as not held, some 300 bytes each: what is forgotten the upstream asks for again."""

EVIDENCE_OWN_FAILURES_MAX: Final = 5
"""Failures of the own service to read an object nobody has asked for, after which the upstream is told that it is not
held for now: half a minute, in which a store restarts. Until it asks again it lists others in its place."""

EVIDENCE_HELD_MAX: Final = 256
"""Digests that are taken of one message of the own service (WatchHeldResponse)."""

BACKOFF_SECONDS_MIN: Final = 0.2
"""Bound of the first pause after a failure: a restart of a service on the same machine takes about a second."""

BACKOFF_SECONDS_MAX: Final = 15.0
"""Bound of all later pauses: an upstream that comes back is found within a quarter of a minute."""

ERROR_CHARACTERS_MAX: Final = 500
"""Characters kept of an error for people: a sentence, not a dump."""


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """The times that a link keeps, in seconds. Tests set shorter ones."""

    # How long a push stays open with nothing left to push: a record that follows soon saves the opening of two calls.
    linger_seconds: float = 2.0
    # How long one log may hold a sender while others wait: some 30 full batches.
    turn_seconds: float = 1.0
    # Pause before a refused log or link is tried again: a person has to act first.
    refused_seconds: float = 30.0
    # Pause before asking an upstream again that has not registered this platform: somebody there does it right now.
    unregistered_seconds: float = 3.0
    # Without any acknowledgement for this long, while entries wait, a person should know.
    stalled_seconds: float = 60.0
    # Longest wait for one answer before a push is given up and tried again: a person sees the stall first.
    answer_seconds: float = 90.0
    # Pause between two handshakes on a link that works: finds an upstream that hangs or was set back.
    renewal_seconds: float = 15.0
    # Longest answer to a handshake: the upstream asks each of its services, for 5 s at most.
    handshake_seconds: float = 10.0
    # A link that has held this long begins again with the shortest pause.
    settled_seconds: float = 15.0
    backoff_seconds_min: float = BACKOFF_SECONDS_MIN
    backoff_seconds_max: float = BACKOFF_SECONDS_MAX
