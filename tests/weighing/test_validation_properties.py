"""Nothing that parses makes the field checks fail, and what they say is fit to be shown."""

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.weighing.validation import validate_record
from zhichao.weighing.v1 import record_pb2 as pb

NOW_SECONDS = 1_750_000_000.5

int32s = st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 30)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
optional_int32s = st.none() | int32s
plates = st.builds(pb.Plate, number=texts, color=int32s, raw_color_code=texts, confidence_permille=optional_int32s)
axles = st.builds(
    pb.Axle, weight_kg=optional_int32s, spacing_mm=optional_int32s, tires=int32s, is_drive=st.none() | st.booleans()
)
vehicles = st.builds(
    pb.Vehicle,
    vehicle_class=int32s,
    axle_count=optional_int32s,
    axles=st.lists(axles, max_size=22),
    axle_group_codes=texts | st.text("01234567", max_size=22),
    drive_axle_count=optional_int32s,
    registered_mass_kg=optional_int32s,
    length_mm=optional_int32s,
    width_mm=optional_int32s,
    height_mm=optional_int32s,
)
records = st.builds(
    pb.WeighingRecord,
    record_id=texts,
    source_unit_id=texts,
    event=int32s,
    gross_weight_kg=int32s,
    tare_weight_kg=optional_int32s,
    front_plate=st.none() | plates,
    vehicle=st.none() | vehicles,
    parent_record_id=texts,
    lane=optional_int32s,
    goods=texts,
    driver=st.none() | st.builds(pb.Driver, name=texts, phone_number=texts, license_number=texts),
    transport_permit=st.none() | st.builds(pb.TransportPermit, number=texts, permitted_mass_kg=int32s),
)


@given(records, st.integers(-(2**63), 2**63 - 1), int32s)
def test_no_record_makes_the_checks_fail(record: pb.WeighingRecord, seconds: int, nanos: int) -> None:
    record.weigh_time.seconds = seconds
    record.weigh_time.nanos = nanos
    found = validate_record(record, NOW_SECONDS)

    assert found is None or all(field and description.isprintable() for field, description in found)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_checks_fail(content: bytes) -> None:
    try:
        record = pb.WeighingRecord.FromString(content)
    except DecodeError:
        return

    assert validate_record(record, NOW_SECONDS) is not None
