"""Every limit of notices and duty checks, with the origin of its number."""

from typing import Final

DIRECTIVE_ID_CHARACTERS_MAX: Final = 64
"""Ids of directives (the contract): a UUID, or a document number with year and division."""

TITLE_CHARACTERS_MAX: Final = 128
"""Titles (the contract): those of official documents take up to three lines of 40 characters."""

BODY_CHARACTERS_MAX: Final = 8_000
"""Texts of notices (the contract): some ten printed pages. At four bytes a character they fill half of the 64 KiB that
an entry may have, which leaves room for audiences and recipients."""

QUESTION_CHARACTERS_MAX: Final = 500
"""Questions of duty checks (the contract): read and answered within a minute."""

RESPONSE_CHARACTERS_MAX: Final = 1_000
"""Acknowledgements and answers (the contract): a paragraph; a page of 200 has at most 0.8 MB."""

REASON_CHARACTERS_MAX: Final = 256
"""Reasons of a withdrawal (the contract): a sentence."""

OFFICER_NAME_CHARACTERS_MAX: Final = 64
"""Names of officers (the contract); names of minorities reach some thirty characters."""

PHONE_NUMBER_CHARACTERS_MAX: Final = 20
"""Phone numbers: at most 15 digits (ITU-T E.164), an extension, and a plus."""

AUDIENCES_MAX: Final = 200
"""Divisions that one directive is addressed to (the contract): each is an entry of its own. The largest province has 21
cities and 183 counties; all of them together are one audience."""

RECIPIENTS_MAX: Final = 1_000
"""Platforms that one directive asks (the contract): five large provinces; they take 8 KiB of the entry."""

ANSWER_MINUTES_MIN: Final = 1
"""Shortest time to answer a duty check: the question has to travel down and be read."""

ANSWER_MINUTES_MAX: Final = 1_440
"""Longest time to answer a duty check: a day, the longest shift. What may take longer is a notice with a deadline."""

DEADLINE_DAYS_MAX: Final = 366
"""Latest deadline of a notice after its issue: campaigns run for a year; what lies further off is a typing error."""

CLOCK_DOUBT_SECONDS: Final = 60
"""How far a recipient's time may lie before the issue until a clock is called doubtful: platforms keep time by NTP,
well within a second; a minute also forgives clocks set by hand."""

PAGE_SIZE_DEFAULT: Final = 50
"""Directives in one answer when the caller names no number (the contract): a screen."""

PAGE_SIZE_MAX: Final = 200
"""Directives or recipients in one answer (the contract): entries of other platforms have up to 64 KiB, 200 of them
12.5 MiB, below the 16 MiB of a message."""

WATCH_CHANGES_MAX: Final = 100
"""Changes in one message of a watch (the contract): half a page."""

WATCH_CHANGES_SCANNED_MAX: Final = 1_000
"""Changes looked at for one message of a watch: where few pass the filter, the position still moves on by many."""
