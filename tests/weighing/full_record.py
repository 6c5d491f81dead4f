"""A record that says everything a record can say, changes of it, and which of its fields are found wrong."""

from collections.abc import Callable

from services.weighing.validation import validate_record
from zhichao.weighing.v1 import record_pb2 as pb

NOW_SECONDS = 1_750_000_000.5

Change = Callable[[pb.WeighingRecord], object]


def good() -> pb.WeighingRecord:
    """Make a record that says everything a record can say."""
    record = pb.WeighingRecord(
        record_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        source_unit_id="141025-0007",
        weighing_point_id="gate_1",
        scale_id="scale-1",
        event=pb.WEIGHING_EVENT_GROSS,
        gross_weight_kg=45_120,
        tare_weight_kg=15_000,
        net_weight_kg=30_120,
        visit_id="visit 7",
        speed_kmh=0,
        lane=1,
        goods="原煤\u3000混煤",
        loading_slip_number="HZ-2025/0001",
        front_plate=pb.Plate(
            number="晋L·12345", color=pb.PLATE_COLOR_YELLOW, raw_color_code="1", confidence_permille=980
        ),
        rear_plate=pb.Plate(number="晋L1234挂"),
        transport_permit=pb.TransportPermit(number="晋超 2025-1", permitted_mass_kg=60_000),
        vehicle=pb.Vehicle(
            vehicle_class=pb.VEHICLE_CLASS_ARTICULATED,
            axle_count=3,
            axle_group_codes="122",
            drive_axle_count=1,
            has_air_suspension=False,
            has_single_tires=False,
            registered_mass_kg=49_000,
            length_mm=17_100,
            width_mm=2_550,
            height_mm=3_990,
            axles=[
                pb.Axle(weight_kg=7_000, spacing_mm=3_300, tires=pb.TIRE_ARRANGEMENT_SINGLE, is_drive=False),
                pb.Axle(weight_kg=0, spacing_mm=1_350, tires=pb.TIRE_ARRANGEMENT_DUAL, is_drive=True),
                pb.Axle(weight_kg=9_000, tires=pb.TIRE_ARRANGEMENT_WIDE_SINGLE),
            ],
        ),
    )
    record.weigh_time.FromMilliseconds(1_750_000_000_123)
    return record


def fields(record: pb.WeighingRecord) -> list[str]:
    return [field for field, _ in validate_record(record, NOW_SECONDS) or []]


def changed(change: Change) -> pb.WeighingRecord:
    record = good()
    change(record)
    return record


def setting(path: str, value: object) -> Change:
    """Make a change that sets one field, named by its path."""

    def change(record: pb.WeighingRecord) -> None:
        *parents, last = path.split(".")
        message: object = record
        for parent in parents:
            message = message[int(parent)] if parent.isdecimal() else getattr(message, parent)  # type: ignore[index]  # JSON and messages are walked by name
        setattr(message, last, value)

    return change


def as_field(path: str) -> str:
    return ".".join(f"[{part}]" if part.isdecimal() else part for part in path.split(".")).replace(".[", "[")
