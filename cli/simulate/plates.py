"""Made-up number plates of every kind, and the ways in which cameras misread them.

Every number carries a city letter that its province has not issued, so no plate made here belongs to a real truck.
"""

from random import Random

from cli.plate_color_codes import TOLL_COLORS
from zhichao.weighing.v1 import record_pb2

# Province and the letters after it that no city of it uses; weights favour the neighbourhood of Linfen.
_REGIONS = (("晋", "NPQRSTUVWXYZ"), ("陕", "MNPQRST"), ("豫", "WXYZ"), ("冀", "KLNPQ"), ("蒙", "NPQRST"))
_REGION_WEIGHTS = (70, 10, 10, 6, 4)
# I and O are never issued (GA 36).
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_DIGITS = "0123456789"

# What some terminals send along.
_TOLL_CODES = {color: code for code, color in TOLL_COLORS.items()}

# Trucks above 4.5 t carry yellow plates; the other colours are rare and must be handled all the same.
_LARGE_COLORS = (
    record_pb2.PLATE_COLOR_YELLOW,
    record_pb2.PLATE_COLOR_YELLOW_GREEN,
    record_pb2.PLATE_COLOR_WHITE,
    record_pb2.PLATE_COLOR_BLACK,
    record_pb2.PLATE_COLOR_GREEN,
)
_LARGE_WEIGHTS = (930, 60, 4, 3, 3)
_SMALL_COLORS = (
    record_pb2.PLATE_COLOR_BLUE,
    record_pb2.PLATE_COLOR_GRADIENT_GREEN,
    record_pb2.PLATE_COLOR_YELLOW,
)
_SMALL_WEIGHTS = (600, 100, 300)

# What cameras make of a number in dirt, rain and backlight.
_LOOKALIKES = {"0": "O", "1": "I", "8": "B", "B": "8", "D": "0", "5": "S", "2": "Z"}


def draw_plate(rng: Random, *, is_large: bool) -> record_pb2.Plate:
    """Draw the front plate of a truck, clean and without what a terminal adds."""
    colors, weights = (_LARGE_COLORS, _LARGE_WEIGHTS) if is_large else (_SMALL_COLORS, _SMALL_WEIGHTS)
    color = rng.choices(colors, weights)[0]
    start = _region(rng)
    if color == record_pb2.PLATE_COLOR_YELLOW_GREEN:
        number = start + _draw(rng, _DIGITS, 5) + rng.choice("DF")
    elif color == record_pb2.PLATE_COLOR_GRADIENT_GREEN:
        number = start + rng.choice("DF") + _draw(rng, _DIGITS, 5)
    else:
        number = start + _serial(rng)
    return record_pb2.Plate(number=number, color=color)


def draw_trailer_plate(rng: Random) -> record_pb2.Plate:
    """Draw the rear plate of a semi-trailer or trailer (挂)."""
    return record_pb2.Plate(number=_region(rng) + _draw(rng, _DIGITS, 4) + "挂", color=record_pb2.PLATE_COLOR_YELLOW)


def as_read(rng: Random, plate: record_pb2.Plate, *, sends_raw_color: bool, is_garbled: bool) -> record_pb2.Plate:
    """Return the plate as a camera reads it: with a confidence, an own colour code, and perhaps garbled."""
    read = record_pb2.Plate(number=plate.number, color=plate.color)
    if sends_raw_color:
        read.raw_color_code = _TOLL_CODES[plate.color]
    if is_garbled:
        read.number = _garble(rng, plate.number)
        read.confidence_permille = rng.randint(180, 620)
    else:
        read.confidence_permille = min(1000, int(rng.triangular(820, 1000, 985)))
    return read


def _garble(rng: Random, number: str) -> str:
    """Misread a number in one of the ways seen in the field; never longer than 16 characters."""
    way = rng.randrange(5)
    if way == 0:
        return "".join(_LOOKALIKES.get(sign, sign) for sign in number)
    if way == 1:
        return number[: rng.randint(3, 5)]
    if way == 2:
        return f"{number[:2]}·{number[2:]}".lower()
    if way == 3:
        place = rng.randrange(2, len(number))
        return f"{number[:place]}?{number[place + 1 :]}"
    return f" {number[:2]} {number[2:]} "


def _region(rng: Random) -> str:
    province, letters = rng.choices(_REGIONS, _REGION_WEIGHTS)[0]
    return province + rng.choice(letters)


def _serial(rng: Random) -> str:
    """Five signs, mostly digits, at most two letters."""
    signs = list(_draw(rng, _DIGITS, 5))
    for _ in range(rng.choices((0, 1, 2), (4, 4, 2))[0]):
        signs[rng.randrange(5)] = rng.choice(_LETTERS)
    return "".join(signs)


def _draw(rng: Random, signs: str, count: int) -> str:
    return "".join(rng.choices(signs, k=count))
