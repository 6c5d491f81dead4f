"""The generator: everything repeats, trucks are what they should be, and faults are as frequent as asked."""

import csv
import importlib.util
import itertools
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from cli.simulate.options import TrafficOptions
from cli.simulate.site import Site, credit_check_character, make_site
from cli.simulate.terminal import NO_PLATE
from cli.simulate.traffic import Emission, OfflineSchedule, Traffic
from zhichao.weighing.v1 import record_pb2

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
START = datetime(2026, 11, 1, 0, 0, tzinfo=UTC)
SITE = make_site(seed=7, units=12)

# Order 62 of 2016 and the stricter rows of the chart, by class and axles: no ordinary truck may be above them.
STRICT_LIMITS_KG = {
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 2): 18_000,
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 3): 25_000,
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 4): 31_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 3): 27_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 4): 36_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 5): 43_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 6): 49_000,
}


def make_traffic(
    count: int, *, site: Site = SITE, seed: int = 7, options: TrafficOptions | None = None, rate: float = 50
) -> list[Emission]:
    traffic = Traffic(site, seed=seed, start_time=START, records_per_second=rate, options=options)
    return list(itertools.islice(traffic.emissions(), count))


def test_same_seed_and_start_make_the_same_records() -> None:
    first, again = make_traffic(2_000), make_traffic(2_000)

    assert [one.record.SerializeToString(deterministic=True) for one in first] == [
        one.record.SerializeToString(deterministic=True) for one in again
    ]
    assert [(one.offset_seconds, one.release_seconds, one.terminal, one.is_resent) for one in first] == [
        (one.offset_seconds, one.release_seconds, one.terminal, one.is_resent) for one in again
    ]


def test_another_seed_makes_other_records() -> None:
    assert make_traffic(1, seed=7)[0].record != make_traffic(1, seed=8)[0].record


def test_records_are_weighed_at_the_asked_rate_exactly() -> None:
    offsets = [emission.offset_seconds for emission in make_traffic(500, rate=40)]

    assert offsets == [pytest.approx(count / 40) for count in range(1, 501)]


def test_record_ids_are_unique_version_7_and_tell_the_time() -> None:
    emissions = make_traffic(5_000)

    assert len({one.record.record_id for one in emissions}) == 5_000
    for one in emissions[:50]:
        digits = one.record.record_id.replace("-", "")
        assert digits[12] == "7"
        assert digits[16] in "89ab"
        assert int(digits[:12], 16) == one.record.weigh_time.ToMilliseconds()


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.25, 1.0])
def test_overloads_are_as_many_as_asked(rate: float) -> None:
    options = TrafficOptions(overload_rate=rate, reweigh_rate=0, tare_rate=0)

    overloads = sum(one.is_overload for one in make_traffic(4_000, options=options))

    assert overloads == pytest.approx(4_000 * rate, abs=1)


def test_only_true_overloads_are_above_a_limit() -> None:
    for one in make_traffic(20_000, options=TrafficOptions(overload_rate=0.01)):
        record, vehicle = one.record, one.record.vehicle
        if not vehicle.vehicle_class or not vehicle.axle_count:
            assert not one.is_overload
            continue
        limit_kg = STRICT_LIMITS_KG.get((vehicle.vehicle_class, vehicle.axle_count), 49_000)
        if vehicle.registered_mass_kg:
            limit_kg = min(limit_kg, vehicle.registered_mass_kg)
        if one.is_overload:
            assert record.gross_weight_kg > limit_kg * 1.1
            assert record.gross_weight_kg <= 200_000
        else:
            assert 500 <= record.gross_weight_kg <= limit_kg


def test_every_reweigh_follows_an_overload_of_its_unit_and_visit() -> None:
    emissions = make_traffic(20_000, options=TrafficOptions(overload_rate=0.02, reweigh_rate=1))
    overloads = {one.record.record_id: one for one in emissions if one.is_overload}
    reweighs = [one for one in emissions if one.record.event == record_pb2.WEIGHING_EVENT_REWEIGH]

    assert len(reweighs) > 300
    for one in reweighs:
        first = overloads[one.record.parent_record_id]
        assert one.record.source_unit_id == first.record.source_unit_id
        assert one.record.visit_id == first.record.visit_id
        assert one.record.gross_weight_kg < first.record.gross_weight_kg
        assert one.offset_seconds > first.offset_seconds


def test_loaded_trucks_that_were_weighed_empty_carry_tare_and_net() -> None:
    emissions = make_traffic(20_000, options=TrafficOptions(tare_rate=0.5))
    tares = {
        one.record.visit_id: one.record.gross_weight_kg
        for one in emissions
        if one.record.event == record_pb2.WEIGHING_EVENT_TARE
    }
    loaded = [
        one.record
        for one in emissions
        if one.record.event == record_pb2.WEIGHING_EVENT_GROSS and one.record.HasField("tare_weight_kg")
    ]

    assert len(loaded) > 5_000
    for record in loaded:
        assert record.tare_weight_kg == tares[record.visit_id]
        assert record.net_weight_kg == record.gross_weight_kg - record.tare_weight_kg > 0


def test_axles_add_up_and_are_as_many_as_counted() -> None:
    detailed = [one.record for one in make_traffic(10_000) if one.record.vehicle.axles]

    assert len(detailed) > 1_000
    for record in detailed:
        axles = record.vehicle.axles
        assert len(axles) == record.vehicle.axle_count
        assert sum(axle.weight_kg for axle in axles) == record.gross_weight_kg
        assert all(axle.weight_kg > 0 for axle in axles)
        assert [axle.HasField("spacing_mm") for axle in axles] == [True] * (len(axles) - 1) + [False]


def test_plates_are_of_every_kind_and_of_nobody() -> None:
    records = [one.record for one in make_traffic(30_000)]
    colors = Counter(record.front_plate.color for record in records if record.HasField("front_plate"))

    assert set(colors) >= set(range(1, 8))
    assert any(record.rear_plate.number.endswith("挂") for record in records)
    assert any(record.front_plate.number == NO_PLATE for record in records)
    assert any(not record.HasField("front_plate") for record in records)
    # City letters of Shanxi that are issued: A to F, H, J to M.
    issued = {f"晋{letter}" for letter in "ABCDEFHJKLM"}
    assert not [record for record in records if record.front_plate.number.strip()[:2].upper() in issued]
    assert all(len(record.front_plate.number) <= 16 for record in records)


def test_rates_of_zero_and_one_are_kept() -> None:
    never = TrafficOptions(
        no_plate_rate=0,
        unknown_class_rate=0,
        no_axle_count_rate=0,
        resend_rate=0,
        late_rate=0,
        swap_rate=0,
        tare_rate=0,
    )
    always = TrafficOptions(no_plate_rate=1, unknown_class_rate=1, no_axle_count_rate=1, resend_rate=1, late_rate=1)

    for one in make_traffic(500, options=never):
        assert one.record.front_plate.number != NO_PLATE
        assert one.record.HasField("front_plate")
        assert one.record.vehicle.vehicle_class
        assert one.record.vehicle.axle_count
        assert one.release_seconds == one.offset_seconds
        assert not one.is_resent
    ordinary = [one for one in make_traffic(500, options=always) if not one.record.parent_record_id]
    for one in ordinary:
        assert one.record.front_plate.number in ("", NO_PLATE)
        assert one.release_seconds > one.offset_seconds
        assert one.is_resent


def test_clocks_are_off_by_a_constant_of_the_terminal() -> None:
    traffic = Traffic(SITE, seed=7, start_time=START, records_per_second=50)
    for one in itertools.islice(traffic.emissions(), 500):
        error = traffic.terminals[one.terminal].clock_error_seconds
        expected = START + timedelta(seconds=one.offset_seconds + error)
        assert abs(one.record.weigh_time.ToDatetime(tzinfo=UTC) - expected) < timedelta(milliseconds=1)
    assert len({terminal.clock_error_seconds for terminal in traffic.terminals}) == len(SITE.stations)


def test_outages_cut_off_the_asked_share_once_in_each_period() -> None:
    options = TrafficOptions(offline_share=0.25, offline_seconds=10, offline_period_seconds=60)
    schedule = OfflineSchedule(7, 12, options)

    cut_off = {
        terminal
        for terminal in range(12)
        for tenth in range(600)
        if schedule.offline_until(terminal, tenth / 10) is not None
    }

    assert len(cut_off) == 3


def test_options_refuse_what_is_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"overload_rate is 2; accepted are 0 to 1"):
        TrafficOptions(overload_rate=2)
    with pytest.raises(ValueError, match="at most half"):
        TrafficOptions(offline_seconds=50, offline_period_seconds=60)


def test_a_site_is_the_same_for_the_same_seed_however_big() -> None:
    assert make_site(seed=3, units=5).units == make_site(seed=3, units=30).units[:5]
    assert make_site(seed=3, units=1).units != make_site(seed=4, units=1).units


def test_units_have_valid_codes_names_of_their_own_and_ids_within_the_contract() -> None:
    site = make_site(seed=2**32 - 1, units=60)

    assert len({unit.name for unit in site.units}) == 60
    for unit in site.units:
        assert len(unit.credit_code) == 18
        assert credit_check_character(unit.credit_code[:17]) == unit.credit_code[17]
        assert len(unit.source_unit_id) <= 32
    for station in site.stations:
        assert station.scale.weighing_point_id == station.point.weighing_point_id


def test_a_known_credit_code_passes() -> None:
    # The worked example of GB 32100-2015, annex.
    assert credit_check_character("91350100M000100Y4") == "3"


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
def test_units_lie_within_the_county() -> None:
    outlines = json.loads((SHARED / "geo" / "counties_shuozhou_linfen.geojson").read_text(encoding="utf-8"))
    (county,) = (one for one in outlines["features"] if one["properties"]["gb"].endswith("141025"))
    ring = county["geometry"]["coordinates"][0][0]

    for station in make_site(seed=1, units=200).stations:
        place = station.point.location
        assert is_inside(ring, place.longitude_degrees, place.latitude_degrees)


def is_inside(ring: list[list[float]], x: float, y: float) -> bool:
    crossings = 0
    for (x1, y1), (x2, y2) in itertools.pairwise(ring):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            crossings += 1
    return crossings % 2 == 1


def test_certificates_cover_the_year_of_the_run() -> None:
    certificates = list(SITE.certificates(2026, 2026))

    assert len(certificates) == len(SITE.stations)
    assert {(one.valid_from, one.valid_until) for one in certificates} == {("2026-01-01", "2026-12-31")}
    assert date.fromisoformat(certificates[0].valid_until) - date.fromisoformat(certificates[0].valid_from) < timedelta(
        days=366
    )


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
def test_the_shipped_model_is_what_the_tool_fits_and_copies_no_row(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("fit_traffic", root / "tools" / "fit_traffic.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source = SHARED / "wim" / "wim_5000_trucks.csv"

    fitted = tool.written(tool.fit(list(tool.read(source))))

    shipped = (root / "cli" / "simulate" / "traffic_model.json").read_text(encoding="utf-8")
    assert shipped == fitted
    with source.open(newline="", encoding="utf-8") as file:
        numbers = {row["record_no"] for row in csv.DictReader(file)}
    assert not [number for number in numbers if f'"{number}"' in shipped or f" {number}," in shipped]
