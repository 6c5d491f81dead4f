"""The fields of a record that a column can hold, and the units that its cells can be in.

Field names are those of the proto, flattened: `front_plate_number` is `front_plate.number`, `axle_3_weight_kg` the load
of the third axle. A unit in a name is the unit of the record; the column's own unit is given beside it (`:t`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

# The contract takes 2 to 20 axles.
AXLES_MAX = 20


class Kind(Enum):
    """What the cells of a column mean."""

    TEXT = "text"
    COUNT = "count"
    WEIGHT = "weight"
    LENGTH = "length"
    SPEED = "speed"
    TIME = "time"
    CONFIDENCE = "confidence"
    FLAG = "flag"
    EVENT = "event"
    PLATE_COLOR = "plate color"
    VEHICLE_CLASS = "vehicle class"


# Factors to the unit of the record (kg, mm, km/h, permille), exact. The first unit of a kind is the default. `t*100` is
# what some interfaces send: hundredths of a tonne.
FACTORS: Mapping[Kind, Mapping[str, Decimal]] = {
    Kind.WEIGHT: {"kg": Decimal(1), "t": Decimal(1000), "t*100": Decimal(10), "g": Decimal("0.001")},
    Kind.LENGTH: {"mm": Decimal(1), "cm": Decimal(10), "m": Decimal(1000)},
    Kind.SPEED: {"km/h": Decimal(1), "m/s": Decimal("3.6")},
    Kind.CONFIDENCE: {"permille": Decimal(1), "percent": Decimal(10), "share": Decimal(1000)},
}
# Units that are not factors: how a time is written, and which code set a plate colour is in.
FORMS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TIME: ("text", "epoch_s", "epoch_ms"),
    Kind.PLATE_COLOR: ("text", "toll", "jt809"),
}
# What people write for a unit.
UNIT_NAMES: Mapping[str, str] = {
    "千克": "kg", "公斤": "kg", "吨": "t", "毫米": "mm", "厘米": "cm", "米": "m",
    "kmh": "km/h", "公里/小时": "km/h", "千米/小时": "km/h", "米/秒": "m/s", "ms": "m/s",
    "‰": "permille", "%": "percent", "吨*100": "t*100", "0.01t": "t*100",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field of a record: its name, what its cells mean, and where it is in the message."""

    name: str
    kind: Kind
    path: tuple[str, ...]
    # From 1; 0 when the field is not of an axle.
    axle: int = 0

    @property
    def units(self) -> tuple[str, ...]:
        """Return the units that a column of this field can have; the first is the default."""
        return tuple(FACTORS.get(self.kind, ())) or FORMS.get(self.kind, ())


def _field(path: str, kind: Kind, name: str = "") -> Field:
    parts = tuple(path.split("."))
    return Field(name or "_".join(part for part in parts if part != "vehicle"), kind, parts)


FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (
        _field("record_id", Kind.TEXT),
        _field("source_unit_id", Kind.TEXT),
        _field("weighing_point_id", Kind.TEXT),
        _field("scale_id", Kind.TEXT),
        _field("weigh_time", Kind.TIME),
        _field("event", Kind.EVENT),
        _field("gross_weight_kg", Kind.WEIGHT),
        _field("tare_weight_kg", Kind.WEIGHT),
        _field("net_weight_kg", Kind.WEIGHT),
        _field("front_plate.number", Kind.TEXT),
        _field("front_plate.color", Kind.PLATE_COLOR),
        _field("front_plate.confidence_permille", Kind.CONFIDENCE),
        _field("rear_plate.number", Kind.TEXT),
        _field("rear_plate.color", Kind.PLATE_COLOR),
        _field("rear_plate.confidence_permille", Kind.CONFIDENCE),
        _field("vehicle.vehicle_class", Kind.VEHICLE_CLASS),
        _field("vehicle.axle_count", Kind.COUNT),
        _field("vehicle.axle_group_codes", Kind.TEXT),
        _field("vehicle.drive_axle_count", Kind.COUNT),
        _field("vehicle.has_air_suspension", Kind.FLAG),
        _field("vehicle.has_single_tires", Kind.FLAG),
        _field("vehicle.registered_mass_kg", Kind.WEIGHT),
        _field("vehicle.length_mm", Kind.LENGTH),
        _field("vehicle.width_mm", Kind.LENGTH),
        _field("vehicle.height_mm", Kind.LENGTH),
        _field("parent_record_id", Kind.TEXT),
        _field("visit_id", Kind.TEXT),
        _field("speed_kmh", Kind.SPEED),
        _field("lane", Kind.COUNT),
        _field("goods", Kind.TEXT),
        _field("loading_slip_number", Kind.TEXT),
        _field("transport_permit.number", Kind.TEXT),
        _field("transport_permit.permitted_mass_kg", Kind.WEIGHT),
    )
} | {
    f"axle_{axle}_{name}": Field(f"axle_{axle}_{name}", kind, (name,), axle)
    for axle in range(1, AXLES_MAX + 1)
    for name, kind in (("weight_kg", Kind.WEIGHT), ("spacing_mm", Kind.LENGTH))
}

# Without these there is no weighing.
REQUIRED = ("record_id", "weigh_time", "gross_weight_kg")

# Known names of columns, normalised and without their unit, by field.
_NAMES: Mapping[str, str] = {
    "record_id": "record_id recordid record_no recordno serial_no serial_number slip_no ticket_no id "
    "记录编号 记录号 流水号 磅单号 过磅单号 称重单号 检测单号 单号 编号",
    "source_unit_id": "source_unit source_unit_id 源头单位编号 源头单位代码 企业编号",
    "weighing_point_id": "weighing_point weighing_point_id 称重点编号 称重点代码 磅点编号",
    "scale_id": "scale scale_id 衡器编号 地磅编号 磅号",
    "weigh_time": "weigh_time time timestamp datetime date_time ts ts_local weighed_at "
    "称重时间 检测时间 过磅时间 过车时间 毛重时间 重车时间 出厂时间 时间",
    "event": "event weighing_event weigh_type 称重类型 检测类型 过磅类型",
    "gross_weight_kg": "gross gross_weight gvw gcw total_weight 毛重 总重 总重量 车货总重 车货总质量 车货总重量",
    "tare_weight_kg": "tare tare_weight 皮重 空重 空车重量",
    "net_weight_kg": "net net_weight 净重 货重",
    "front_plate_number": "plate plate_no plate_number license_plate front_plate front_plate_number vehicle_no "
    "车牌 车牌号 车牌号码 车号 号牌号码 前车牌 前车牌号 车头车牌",
    "front_plate_color": "plate_color front_plate_color 车牌颜色 号牌颜色 前车牌颜色",
    "front_plate_confidence_permille": "plate_confidence confidence 车牌置信度 置信度",
    "rear_plate_number": "rear_plate rear_plate_number trailer_plate "
    "挂车车牌 挂车车牌号 挂车号 挂车号牌 后车牌 后车牌号",
    "rear_plate_color": "rear_plate_color trailer_plate_color 挂车车牌颜色 后车牌颜色",
    "vehicle_class": "vehicle_class vehicle_type 车型 车辆类型 车辆种类",
    "axle_count": "axles axle_count axle_num axle_number 轴数 车轴数 总轴数",
    "axle_group_codes": "axle_group_codes axle_type axle_types 轴型 轴组型 轴型代码",
    "drive_axle_count": "drive_axles drive_axle_count 驱动轴数",
    "registered_mass_kg": "registered_mass 登记总质量 行驶证总质量 核定总质量",
    "length_mm": "length vehicle_length 车长 长度 车辆长度 长",
    "width_mm": "width vehicle_width 车宽 宽度 车辆宽度 宽",
    "height_mm": "height vehicle_height 车高 高度 车辆高度 高",
    "parent_record_id": "parent_record_id first_record_id 初检单号 初检编号 首次称重编号",
    "visit_id": "visit visit_id 进出编号",
    "speed_kmh": "speed 车速 速度",
    "lane": "lane lane_no 车道 车道号",
    "goods": "goods cargo material 货物 货名 货物名称 货物种类 物料 物料名称 品名",
    "loading_slip_number": "loading_slip loading_slip_number 装载单号 货物装载单号 提货单号",
    "transport_permit_number": "permit permit_no permit_number 通行证号 超限运输通行证号",
    "transport_permit_permitted_mass_kg": "permitted_mass 许可总质量 许可总重",
}
KNOWN_NAMES: Mapping[str, str] = {name: field for field, names in _NAMES.items() for name in names.split()}

# Known columns that no field takes, and why.
IGNORED_NAMES: Mapping[str, str] = {
    "axle_groups": "a count of axle groups, not their codes 轴组数量, 不是轴组代码",
    "dir": "direction is not part of a record 记录不含方向",
    "direction": "direction is not part of a record 记录不含方向",
    "方向": "direction is not part of a record 记录不含方向",
    "limit": "the platform judges by its own rule set 限值由平台判定",
    "限重": "the platform judges by its own rule set 限值由平台判定",
    "超限率": "the platform judges by its own rule set 限值由平台判定",
    "超限量": "the platform judges by its own rule set 限值由平台判定",
}

# Numbered columns of axles; a spacing is named by the axle in front of it.
AXLE_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?:w|axle_?|axle_weight_?|axleweight)(\d{1,2})(?:_?weight)?"), "weight_kg"),
    (re.compile(r"(?:第?(\d{1,2})轴(?:轴?重|重量)|轴重(\d{1,2})|轴(\d{1,2})重量?)"), "weight_kg"),
    (re.compile(r"(?:s|spacing_?|axle_spacing_?)(\d{1,2})(?:_(\d{1,2}))?"), "spacing_mm"),
    (re.compile(r"axle_?(\d{1,2})_?spacing"), "spacing_mm"),
    (re.compile(r"(?:轴距(\d{1,2})(?:[-_]\d{1,2})?|第?(\d{1,2})轴距)"), "spacing_mm"),
)
