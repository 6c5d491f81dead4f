"""From the cells of a row to a weighing record: numbers, units, times and words; pure.

Only what cannot be put into the message at all is a problem here. Ranges are the platform's business: it names them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cli.importer.fields import AXLES_MAX, FACTORS, REQUIRED, Field, Kind
from cli.importer.mapping import Column
from cli.plate_color_codes import JTT_809_COLORS, TOLL_COLORS
from zhichao.weighing.v1 import record_pb2

# What exports write for "nothing".
_EMPTY = frozenset({"", "-", "--", "—", "/", "null", "NULL", "None", "N/A", "n/a", "NaN", "nan", "\\N"})
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
# Beyond the 32 bits of the record's numbers nothing is representable.
_NUMBER_MAX = 2**31 - 1
_NUMBER_CHARACTERS_MAX = 32
# Remarks are shown by column and value; a column of free text must not fill the memory.
_REMARKS_MAX = 1_000

_TIME = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?[T ]*(\d{1,2})[:时](\d{1,2})(?:[:分](\d{1,2})(?:[.,](\d{1,9}))?秒?)?分?"
    r"\s*(Z|[+-]\d{2}:?\d{2})?"
)
_COMPACT_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})T?(\d{2})(\d{2})(\d{2})(?:\.?(\d{1,9}))?(Z|[+-]\d{2}:?\d{2})?")

_TARE, _GROSS, _REWEIGH = (
    record_pb2.WEIGHING_EVENT_TARE,
    record_pb2.WEIGHING_EVENT_GROSS,
    record_pb2.WEIGHING_EVENT_REWEIGH,
)
_EVENTS = {
    "tare": _TARE, "empty": _TARE, "空车": _TARE, "皮重": _TARE, "进厂": _TARE,
    "gross": _GROSS, "loaded": _GROSS, "重车": _GROSS, "毛重": _GROSS, "出厂": _GROSS, "初检": _GROSS,
    "reweigh": _REWEIGH, "repeat": _REWEIGH, "复检": _REWEIGH, "复秤": _REWEIGH, "复磅": _REWEIGH,
}  # fmt: skip
_RIGID, _ARTICULATED, _FULL, _CENTER, _LOW = (
    record_pb2.VEHICLE_CLASS_RIGID_TRUCK,
    record_pb2.VEHICLE_CLASS_ARTICULATED,
    record_pb2.VEHICLE_CLASS_FULL_TRAILER,
    record_pb2.VEHICLE_CLASS_CENTER_AXLE_TRAILER,
    record_pb2.VEHICLE_CLASS_LOW_SPEED,
)
_CLASSES = {
    "rigid": _RIGID, "rigid_truck": _RIGID, "货车": _RIGID, "载货汽车": _RIGID, "载货车": _RIGID, "自卸车": _RIGID,
    "articulated": _ARTICULATED, "半挂": _ARTICULATED, "半挂车": _ARTICULATED, "半挂汽车列车": _ARTICULATED,
    "铰接列车": _ARTICULATED, "半挂牵引车": _ARTICULATED,
    "full_trailer": _FULL, "全挂": _FULL, "全挂汽车列车": _FULL,
    "center_axle_trailer": _CENTER, "中置轴": _CENTER, "中置轴挂车列车": _CENTER,
    "combination": record_pb2.VEHICLE_CLASS_COMBINATION, "汽车列车": record_pb2.VEHICLE_CLASS_COMBINATION,
    "low_speed": _LOW, "拖拉机": _LOW, "低速货车": _LOW, "三轮汽车": _LOW, "农用车": _LOW,
}  # fmt: skip
_BLUE, _YELLOW, _BLACK, _WHITE, _GREEN, _GRADIENT, _YELLOW_GREEN, _OTHER = range(1, 9)
# By the unit of the column: words, or one of the code sets.
_COLORS: Mapping[str, Mapping[str, int]] = {
    "text": {
        "蓝": _BLUE, "blue": _BLUE, "黄": _YELLOW, "yellow": _YELLOW, "黑": _BLACK, "black": _BLACK,
        "白": _WHITE, "white": _WHITE, "绿": _GREEN, "green": _GREEN, "渐变绿": _GRADIENT,
        "gradient_green": _GRADIENT, "黄绿": _YELLOW_GREEN, "黄绿双拼": _YELLOW_GREEN, "yellow_green": _YELLOW_GREEN,
        "其他": _OTHER, "other": _OTHER,
    },
    "toll": TOLL_COLORS,
    "jt809": JTT_809_COLORS,
}  # fmt: skip
_FLAGS = {
    "1": True, "true": True, "yes": True, "y": True, "是": True, "有": True,
    "0": False, "false": False, "no": False, "n": False, "否": False, "无": False,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One cell that cannot be put into a record."""

    column: str
    message: str

    def __str__(self) -> str:
        return f"{self.column}: {self.message}"


class CellError(ValueError):
    """A cell does not say what its column should."""


class RecordConverter:
    """Makes records from rows. Counts words that it left out because nobody knows what they mean."""

    def __init__(self, columns: Sequence[Column], *, constants: Mapping[str, str], zone: tzinfo) -> None:
        self._columns = [(column, column.target.field) for column in columns if column.target.field is not None]
        self._zone = zone
        self._constants = dict(constants)
        self.remarks: Counter[tuple[str, str]] = Counter()

    def convert(self, cells: Sequence[str]) -> tuple[record_pb2.WeighingRecord, list[Problem]]:
        """Make the record of a row, with every problem at once; with a problem the record is not complete."""
        record = record_pb2.WeighingRecord(event=_GROSS)
        for name, text in self._constants.items():
            setattr(record, name, text)
        problems: list[Problem] = []
        axles: dict[int, dict[str, int]] = {}
        for column, target in self._columns:
            text = cells[column.index].strip()
            if text in _EMPTY:
                continue
            try:
                value = self._value(column, target, text)
                if value is None:
                    continue
                if target.axle:
                    axles.setdefault(target.axle, {})[target.path[0]] = value
                else:
                    _assign(record, target.path, value)
            except (CellError, ValueError, TypeError) as error:
                problems.append(Problem(column.header, str(error)))
        # A required cell that could not be read is named already.
        named = {problem.column for problem in problems}
        problems += [problem for problem in self._missing(record) if problem.column not in named]
        _add_axles(record, axles)
        return record, problems

    def _missing(self, record: record_pb2.WeighingRecord) -> list[Problem]:
        filled = {descriptor.name for descriptor, _ in record.ListFields()}
        missing = []
        for column, target in self._columns:
            if target.name in REQUIRED and target.name not in filled:
                problem = Problem(column.header, f"is empty, but there is no weighing without {target.name}")
                missing.append(problem)
        return missing

    def _value(self, column: Column, target: Field, text: str) -> Any:
        unit = column.target.unit
        match target.kind:
            case Kind.TEXT:
                return text
            case Kind.COUNT:
                return _integer(_number(text))
            case Kind.TIME:
                return _time(text, unit, self._zone)
            case Kind.FLAG:
                return self._word(column, text, _FLAGS)
            case Kind.EVENT:
                word = _EVENTS.get(_normal(text))
                if word is None:
                    raise CellError(f"{_shown(text)} is no event; known are {', '.join(_EVENTS)} 不是已知的称重环节")
                return word
            case Kind.PLATE_COLOR:
                color = self._word(column, text.removesuffix("色").removesuffix("牌"), _COLORS[unit])
                # The word for a colour is no code; what is not understood is kept as it came.
                return "" if unit == "text" and color is not None else text, color
            case Kind.VEHICLE_CLASS:
                return self._word(column, text, _CLASSES)
            case kind:
                return _integer(_number(text) * FACTORS[kind][unit])

    def _word(self, column: Column, text: str, words: Mapping[str, Any]) -> Any:
        found = words.get(_normal(text))
        if found is None and len(self.remarks) < _REMARKS_MAX:
            self.remarks[column.header, _shown(text)] += 1
        return found


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().lower().replace(" ", "_")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _NUMBER_CHARACTERS_MAX else text[:_NUMBER_CHARACTERS_MAX] + "…")


def _number(text: str) -> Decimal:
    plain = unicodedata.normalize("NFKC", text).strip()
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        number = Decimal(plain) if len(plain) <= _NUMBER_CHARACTERS_MAX else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise CellError(f"{_shown(text)} is not a number 不是数字")
    return number


def _integer(number: Decimal) -> int:
    """Round to the integer of the record; a half goes to the even neighbour, so that sums do not drift."""
    if abs(number) > _NUMBER_MAX:
        raise CellError(f"{number} is too large 数值过大")
    return int(number.to_integral_value(rounding=ROUND_HALF_EVEN))


def _time(text: str, form: str, zone: tzinfo) -> datetime:
    if form.startswith("epoch"):
        milliseconds = _number(text) * (1000 if form == "epoch_s" else 1)
        if not 0 <= milliseconds < Decimal(10) ** 14:
            raise CellError(f"{_shown(text)} is not a time in {form} 时间格式不符")
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(milliseconds))
    plain = unicodedata.normalize("NFKC", text).strip()
    match = _TIME.fullmatch(plain) or _COMPACT_TIME.fullmatch(plain)
    if match is None:
        raise CellError(f"{_shown(text)} is not a time such as 2026-11-16 09:28:13.700 不是时间")
    *parts, fraction, offset = match.groups()
    try:
        local = datetime(*(int(part or 0) for part in parts), tzinfo=zone)  # type: ignore[arg-type,misc]  # the parts are digits: the pattern says so
    except ValueError as error:
        raise CellError(f"{_shown(text)} is not a time: {error} 不是时间") from error
    if offset:
        local = local.replace(tzinfo=_offset(offset))
    return local.astimezone(UTC).replace(microsecond=int(f"{fraction or '0':0<6}"[:6]))


def _offset(text: str) -> tzinfo:
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


def find_zone(name: str) -> tzinfo:
    """Return the zone of times that name none; raises ValueError for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        # Small containers have no zone table; this one has not changed since 1991.
        if name == "Asia/Shanghai":
            return timezone(timedelta(hours=8), "Asia/Shanghai")
        raise ValueError(f"there is no time zone {name} 没有该时区") from error


def _assign(record: record_pb2.WeighingRecord, path: tuple[str, ...], value: Any) -> None:
    if path == ("weigh_time",):
        record.weigh_time.FromDatetime(value)
        return
    message: Any = record
    for part in path[:-1]:
        message = getattr(message, part)
    if path[-1] == "color":
        raw, color = value
        message.raw_color_code = raw
        if color is not None:
            message.color = color
    else:
        setattr(message, path[-1], value)


def _add_axles(record: record_pb2.WeighingRecord, axles: Mapping[int, Mapping[str, int]]) -> None:
    """Add as many axles as are counted, or else as have a value; a distance of zero was not measured.

    Exports with fixed columns put zeros behind the last axle; before it, a load of zero is a lifted axle.
    """
    if not any(value for values in axles.values() for value in values.values()):
        return
    vehicle = record.vehicle
    weighed = max((axle for axle, values in axles.items() if values.get("weight_kg")), default=0)
    # n distances lie between n + 1 axles.
    spaced = max((axle + 1 for axle, values in axles.items() if values.get("spacing_mm")), default=0)
    count = max(weighed, vehicle.axle_count if vehicle.HasField("axle_count") else spaced)
    for place in range(1, min(count, AXLES_MAX) + 1):
        values = axles.get(place, {})
        axle = vehicle.axles.add()
        if "weight_kg" in values:
            axle.weight_kg = values["weight_kg"]
        if values.get("spacing_mm") and place < count:
            axle.spacing_mm = values["spacing_mm"]
