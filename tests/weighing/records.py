"""Records as terminals send them, made up; tests change the fields they are about."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tests.registry.harness import START
from zhichao.weighing.v1 import record_pb2, weighing_pb2
from zhichao.weighing.v1.record_pb2 import WeighingRecord

UNIT = "141025-001"

COMPLIANT = weighing_pb2.VERDICT_COMPLIANT
UNDETERMINED = weighing_pb2.VERDICT_UNDETERMINED
SUSPECTED = weighing_pb2.VERDICT_SUSPECTED
NOT_JUDGED = weighing_pb2.VERDICT_NOT_JUDGED

# One weight or event per verdict; an axle count alone leaves the limit open between 25 and 27 t.
BY_VERDICT: dict[int, dict[str, Any]] = {
    COMPLIANT: {"gross_weight_kg": 20_000},
    UNDETERMINED: {"gross_weight_kg": 26_000, "vehicle": record_pb2.Vehicle(axle_count=3)},
    SUSPECTED: {"gross_weight_kg": 30_000},
    NOT_JUDGED: {"gross_weight_kg": 9_000, "event": record_pb2.WEIGHING_EVENT_TARE},
}


def moment(value: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(value)
    return made


def vehicle(**fields: Any) -> record_pb2.Vehicle:
    """Return a rigid truck with three axles: 25,000 kg by Order 62."""
    values: dict[str, Any] = {"vehicle_class": record_pb2.VEHICLE_CLASS_RIGID_TRUCK, "axle_count": 3}
    return record_pb2.Vehicle(**values | fields)


def record(record_id: str = "r-1", **fields: Any) -> WeighingRecord:
    """Return a valid record: a loaded truck that is not too heavy."""
    values: dict[str, Any] = {
        "record_id": record_id,
        "source_unit_id": UNIT,
        "weighing_point_id": "gate-1",
        "scale_id": "scale-1",
        "weigh_time": moment(START),
        "event": record_pb2.WEIGHING_EVENT_GROSS,
        "gross_weight_kg": 24_000,
        "front_plate": record_pb2.Plate(number="晋L00001", color=record_pb2.PLATE_COLOR_YELLOW),
        "vehicle": vehicle(),
    }
    return WeighingRecord(**values | fields)


def records(count: int, prefix: str = "r", **fields: Any) -> list[WeighingRecord]:
    """Return valid records with ids of their own."""
    return [record(f"{prefix}-{number}", **fields) for number in range(count)]


def tagged(message: WeighingRecord, field: int, content: bytes) -> WeighingRecord:
    """Return the record with one field more that this release does not know."""
    key = field << 3 | 2
    encoded = bytes([key & 0x7F | 0x80, key >> 7])
    length = len(content)
    size = bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return WeighingRecord.FromString(message.SerializeToString() + encoded + bytes(size) + content)
