"""The named limits of the journal. Each says where its number comes from."""

from typing import Final

BATCH_RECORDS_MAX: Final = 1_024
"""Entries in one batch that travels: four 256-leaf tiles, so that bulk reads end at tile edges and roots are cheap."""

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of entries in one batch that travels: a quarter of the message limit, so one more large entry always fits."""

RUN_RECORDS_MAX: Final = 4 * BATCH_RECORDS_MAX
"""Entries received in one transaction, and prepared for the next one meanwhile: each half of the batches that a relay
has in flight (services.relay.limits.WINDOW_BATCHES_MAX). The commit itself, some 2 ms, is then a fortieth of the
whole."""

RUN_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX
"""Bytes of entries in these: four full batches of common entries have 1.5 MiB. Packed for the database they are held
twice, beside their rows: a stream holds some 20 MiB for the run that commits and as much for the next, and up to twice
that when every text is as long as a row allows."""

RUN_BATCHES_MAX: Final = 16
"""Batches in one transaction: twice a relay's window, so that it never counts there; bounds what senders of very small
batches make us sign while the log's row is locked (0.1 ms each)."""

ENTRY_BYTES_MAX: Final = 64 * 1024
"""Bytes of one entry: the largest valid weighing record is near 4 KiB, a rule set near 20 KiB."""

LOGS_MAX: Final = 10_000
"""Logs in one service's journal: a province has some hundreds of divisions, each with one log per service."""

PAGE_SIZE_DEFAULT: Final = 100
"""Parked entries in one answer when the caller names no number."""

PAGE_SIZE_MAX: Final = 1_000
"""Parked entries in one answer."""

DETAIL_CHARACTERS_MAX: Final = 500
"""Characters kept of the reason why an entry was parked: a sentence for a person, not a dump."""

WATCH_INTERVAL_SECONDS: Final = 0.1
"""Shortest time between two messages of a position watch: the first growth after a pause is told at once, and a log
that grows without a pause costs each watcher ten looks a second (bench/catch_up). Who follows a log reads it, and is
told of every growth."""

TAIL_POLL_SECONDS: Final = 2.0
"""Longest wait for growth before looking anyway: bounds the delay when a notification is lost with its connection."""

ADDRESSED_BATCH_STEPS_MAX: Final = 256
"""Steps in one batch of addressed entries, and so entries in one receipt: one notice to each of a province's counties,
some 120, fits. Most steps are without the entry for a given reader and have 1 KiB; with proofs of the largest logs a
batch has half a MiB beside its entries."""

ADDRESSED_BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes of entries in one batch of addressed entries: with proofs and notes it stays below the 4 MiB of its message."""

ADDRESSED_PROOFS_KEPT_MAX: Final = 4_096
"""Signed checkpoints and proofs of own steps kept for the next reader, the newest used: every platform below asks for
the same ones. Some 1.5 KiB each."""

ADDRESSED_ORIGINS_MAX: Final = 64
"""Logs of platforms above of which addressed entries are held: a platform has at most eight above it
(services.common.access.divisions.LEVELS_MAX), and some more when it has moved."""

AUDIENCES_MAX: Final = 10_000
"""Divisions that entries of one log are addressed to, as many as there may be logs: China has some 3,200 from county
level up. Named with their counts, they take 200 KiB of a request."""

PROOF_NODES_MAX: Final = 2 * 64
"""Digests in one proof: a tree whose size fits 64 bits has 63 levels, and a consistency proof has one more (RFC 6962,
section 2.1.2). Twice that is refused before anything is hashed."""

RECOVERING_RETRY_SECONDS: Final = 15.0
"""What a caller is told to wait while a restored log is compared with the platform above: a relay shakes hands every
15 s, and what is missing takes a second for some thousand entries."""
