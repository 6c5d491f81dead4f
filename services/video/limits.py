"""Limits of evidence and what is done with it; each says where its number comes from."""

from typing import Final

EVIDENCE_ID_CHARACTERS_MAX: Final = 64
"""Ids that whoever uploads chooses (the contract): a record id with a camera and a number takes half of it."""

SOURCE_UNIT_ID_CHARACTERS_MAX: Final = 32
"""Ids of source units, as the registry takes them."""

RECORD_ID_CHARACTERS_MAX: Final = 64
"""Ids of weighings and acceptances, as the services that hold them take them."""

CAMERA_ID_CHARACTERS_MAX: Final = 64
"""Ids of cameras (the contract): those of GB/T 28181 have 20 digits."""

REFERENCE_ID_CHARACTERS_MAX: Final = 64
"""Ids of holds, bundles and requests (the contract)."""

PURPOSE_CHARACTERS_MAX: Final = 256
"""Why somebody looks (the contract): a sentence with a case number."""

RETENTION_CLASS_CHARACTERS_MAX: Final = 32
"""Ids of retention classes."""

DIGEST_BYTES: Final = 32
"""SHA-256."""

SIZE_BYTES_MAX: Final = 4 << 30
"""Longest evidence (the contract): an hour of a full-HD camera."""

CHUNK_BYTES_MAX: Final = 1 << 20
"""Bytes in one message of an upload (the contract)."""

SUBJECTS_MAX: Final = 16
"""What one piece of evidence proves (the contract): a document of a day's acceptance names some records."""

CLIP_SECONDS_MAX: Final = 24 * 3600
"""Longest interval that a clip is said to show (the contract)."""

CAPTURE_AHEAD_SECONDS_MAX: Final = 24 * 3600
"""How far beyond now a capture may lie: clocks of sites go wrong by minutes or by a time zone; what lies further off is
a typing error, and would stand first in every list for ever."""

CAPTURE_TIME_MIN_YEAR: Final = 2000
"""Earliest year of capture: digital cameras at scales are not older, and a clock that was lost begins in 1970."""

PAGE_SIZE_DEFAULT: Final = 100
"""Items in one answer when the caller names no number (the contract)."""

PAGE_SIZE_MAX: Final = 1_000
"""Items in one answer (the contract): with 2 KiB each it is 2 MiB."""
