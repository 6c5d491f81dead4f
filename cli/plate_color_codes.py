"""Code sets for the colours of plates, as sites write them. They contradict each other, so a code means nothing without
its set; a record holds colours that are free of them, and the code beside it. Camera makers' own sets are not here.
"""

from collections.abc import Mapping
from typing import Final

from zhichao.weighing.v1 import record_pb2

TOLL_COLORS: Final[Mapping[str, record_pb2.PlateColor.ValueType]] = {
    "0": record_pb2.PLATE_COLOR_BLUE,
    "1": record_pb2.PLATE_COLOR_YELLOW,
    "2": record_pb2.PLATE_COLOR_BLACK,
    "3": record_pb2.PLATE_COLOR_WHITE,
    "4": record_pb2.PLATE_COLOR_GRADIENT_GREEN,
    "5": record_pb2.PLATE_COLOR_YELLOW_GREEN,
    "9": record_pb2.PLATE_COLOR_OTHER,
    "11": record_pb2.PLATE_COLOR_GREEN,
}
"""Colours by the codes of overload control and toll systems (治超、收费)."""

JTT_809_COLORS: Final[Mapping[str, record_pb2.PlateColor.ValueType]] = {
    "1": record_pb2.PLATE_COLOR_BLUE,
    "2": record_pb2.PLATE_COLOR_YELLOW,
    "3": record_pb2.PLATE_COLOR_BLACK,
    "4": record_pb2.PLATE_COLOR_WHITE,
    "5": record_pb2.PLATE_COLOR_GREEN,
    "9": record_pb2.PLATE_COLOR_OTHER,
    "0x93": record_pb2.PLATE_COLOR_YELLOW_GREEN,
    "147": record_pb2.PLATE_COLOR_YELLOW_GREEN,
    "0x94": record_pb2.PLATE_COLOR_GRADIENT_GREEN,
    "148": record_pb2.PLATE_COLOR_GRADIENT_GREEN,
}
"""Colours by the codes of JT/T 809-2019; it has its two newer ones in hexadecimal, and systems write both forms."""
