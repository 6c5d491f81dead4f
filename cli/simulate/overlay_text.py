"""Text in simulated pictures, as recorders burn it in: 16-row bitmaps, enlarged. The glyphs are those that plates,
weights and times need, a subset of GNU Unifont (`overlay_glyphs/LICENSE.txt`): a whole Chinese font has ten megabytes.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from PIL import Image

GLYPH_HEIGHT_PX: Final = 16

_UNKNOWN: Final = "?"
_HALF_WIDTH_DIGITS: Final = GLYPH_HEIGHT_PX * 2
"""Hexadecimal digits of a glyph 8 pixels wide: a byte for each row. Full-width ones have twice as many."""


@cache
def _bitmaps() -> dict[str, str]:
    lines = files("cli.simulate").joinpath("overlay_glyphs/glyphs.hex").read_text(encoding="ascii").splitlines()
    return {chr(int(code, 16)): bitmap for code, bitmap in (line.split(":") for line in lines)}


@cache
def _glyph(sign: str) -> Image.Image:
    bitmap = _bitmaps().get(sign, _bitmaps()[_UNKNOWN])
    width_px = 8 if len(bitmap) == _HALF_WIDTH_DIGITS else 16
    return Image.frombytes("1", (width_px, GLYPH_HEIGHT_PX), bytes.fromhex(bitmap)).convert("L")


def line_mask(text: str, scale: int) -> Image.Image:
    """Return a line of text as a mask, white on black, each pixel of a glyph `scale` pixels wide and high."""
    glyphs = [_glyph(sign) for sign in text]
    mask = Image.new("L", (max(1, sum(glyph.width for glyph in glyphs)), GLYPH_HEIGHT_PX))
    left = 0
    for glyph in glyphs:
        mask.paste(glyph, (left, 0))
        left += glyph.width
    return mask.resize((mask.width * scale, mask.height * scale), Image.Resampling.NEAREST)
