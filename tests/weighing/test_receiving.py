"""Which received weighings have a row and what is in it: the one quick condition against a rule at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal.projection import Unprojectable
from services.weighing.receiving import INSTANT_MAX_SECONDS, INSTANT_MIN_SECONDS, RECEIVED_CHARACTERS_MAX, received_row
from services.weighing.rows import unpack_row
from zhichao.weighing.v1 import record_pb2, weighing_pb2

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = "晋" * RECEIVED_CHARACTERS_MAX
INT32 = st.one_of(st.sampled_from([-(2**31), -1, 0, 1, 4, 5, 2**15 - 1, 2**15, 2**31 - 1]), st.integers(0, 6))
NANOS = st.sampled_from([-1, 0, 999, 1_000, 999_999_999, 1_000_000_000])
SECONDS = st.sampled_from(
    [0, -1, 1_800_000_000, INSTANT_MIN_SECONDS - 1, INSTANT_MIN_SECONDS, INSTANT_MAX_SECONDS - 1, INSTANT_MAX_SECONDS]
)
INSTANTS = st.one_of(
    st.none(), st.just(Timestamp(seconds=1_800_000_000)), st.builds(Timestamp, seconds=SECONDS, nanos=NANOS)
)
TEXTS = st.one_of(st.just("a"), st.sampled_from(["", "a\x00b", LONGEST, LONGEST + "a", "🚚"]))
VEHICLES = st.one_of(
    st.none(),
    st.builds(
        lambda count, axles: record_pb2.Vehicle(axle_count=count, axles=[record_pb2.Axle()] * axles),
        st.one_of(st.none(), INT32),
        st.integers(0, 3),
    ),
)
RECORDS = st.builds(
    record_pb2.WeighingRecord,
    record_id=TEXTS,
    source_unit_id=TEXTS,
    weighing_point_id=TEXTS,
    scale_id=TEXTS,
    weigh_time=INSTANTS,
    event=INT32,
    gross_weight_kg=INT32,
    vehicle=VEHICLES,
)
WEIGHINGS = st.builds(
    weighing_pb2.Weighing,
    record=RECORDS,
    judgement=st.builds(
        weighing_pb2.Judgement,
        verdict=st.one_of(st.integers(1, 4), INT32),
        severity=INT32,
        lenient_limit_kg=INT32,
        excess_kg=INT32,
    ),
    receive_time=INSTANTS,
    plate_number=TEXTS,
    quality_flags=st.lists(st.sampled_from([-1, 0, 1, 9, 31, 32]), max_size=3),
)


def is_instant(instant: Timestamp) -> bool:
    return INSTANT_MIN_SECONDS <= instant.seconds < INSTANT_MAX_SECONDS and 0 <= instant.nanos < 10**9


def problems(weighing: weighing_pb2.Weighing) -> list[str]:
    """Return what keeps a weighing from having a row, rule by rule."""
    record, judgement = weighing.record, weighing.judgement
    texts = (record.record_id, record.source_unit_id, record.weighing_point_id, record.scale_id, weighing.plate_number)
    numbers = (judgement.severity, record.event, record.vehicle.axle_count or len(record.vehicle.axles))
    rules = {
        "lacks weigh_time": record.HasField("weigh_time"),
        "lacks record_id or source_unit_id": bool(record.record_id and record.source_unit_id),
        "characters or a zero byte": all(len(text) <= 320 and "\x00" not in text for text in texts),
        "weigh_time is not an instant": is_instant(record.weigh_time),
        "receive_time is not an instant": is_instant(weighing.receive_time),
        "is not one that this release knows": 1 <= judgement.verdict <= 4,
        "lies outside of 0 to 32767": all(0 <= number < 2**15 for number in numbers),
    }
    return [problem for problem, holds in rules.items() if not holds]


def moment(instant: Timestamp) -> datetime:
    return EPOCH + timedelta(seconds=instant.seconds, microseconds=instant.nanos // 1_000)


@settings(max_examples=2_000, deadline=None)
@given(WEIGHINGS)
def test_a_weighing_has_a_row_exactly_when_every_rule_holds(weighing: weighing_pb2.Weighing) -> None:
    content = weighing.SerializeToString()
    if expected := problems(weighing):
        with pytest.raises(Unprojectable) as refusal:
            received_row(content)
        assert [problem for problem in expected if problem in str(refusal.value)]
        return
    row = unpack_row(received_row(content))
    record, judgement = weighing.record, weighing.judgement
    assert row[:2] == (moment(record.weigh_time), moment(weighing.receive_time))
    assert row[2:] == (
        record.gross_weight_kg,
        judgement.verdict,
        judgement.severity,
        record.event,
        record.vehicle.axle_count or len(record.vehicle.axles),
        sum({1 << flag - 1 for flag in weighing.quality_flags if 0 < flag <= 31}),
        judgement.lenient_limit_kg,
        judgement.excess_kg,
        record.source_unit_id,
        record.weighing_point_id,
        record.scale_id,
        record.record_id,
        weighing.plate_number,
    )


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05abc", b"\x2a\x02\xff\xfe"])
def test_bytes_that_are_no_weighing(payload: bytes) -> None:
    with pytest.raises(Unprojectable, match="the payload is not a Weighing"):
        received_row(payload)


def test_a_refusal_shows_nothing_of_the_record() -> None:
    fields: dict[str, Any] = {"record_id": "secret\x00", "source_unit_id": "secret", "weigh_time": Timestamp(seconds=1)}
    weighing = weighing_pb2.Weighing(record=record_pb2.WeighingRecord(**fields), plate_number="secret")
    with pytest.raises(Unprojectable) as refusal:
        received_row(weighing.SerializeToString())
    assert "secret" not in str(refusal.value)
