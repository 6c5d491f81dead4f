"""The console on which commands show what platforms hold. Much of that was written by others: the name of a unit, the
text of an acknowledgement, the release of a peer. It is shown as text and can do nothing to the terminal.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

_SHOWN: Final = "\ufffd"

# Controls of ISO/IEC 6429 but the line feed: they begin what moves the cursor, changes colours or the title, or asks
# for answers. And what makes a text read differently from what it is (Unicode TR 36, bidirectional text spoofing).
_RANGES: Final = ((0x00, 0x09), (0x0B, 0x1F), (0x7F, 0x9F), (0x202A, 0x202E), (0x2066, 0x2069))
_CONTROLS: Final[Mapping[int, str]] = {number: _SHOWN for first, last in _RANGES for number in range(first, last + 1)}


class Console(rich.console.Console):
    """A console without markup and pictures for words like :100:, which are within addresses too; it shows control
    characters in texts as what they are: nothing readable.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"markup": False, "emoji": False} | options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render; what rich itself tells the terminal stays as it is."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=segment.text.translate(_CONTROLS))
