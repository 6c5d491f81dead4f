"""One terminal of a scale: which truck is weighed next, and the record that the terminal makes of it.

Pure and seeded: the same seed, station, options and times give the same records byte for byte.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from cli.simulate.options import TrafficOptions
from cli.simulate.plates import as_read
from cli.simulate.seeding import seeded_random
from cli.simulate.site import Station
from cli.simulate.trucks import Truck, TruckModel
from zhichao.registry.v1 import resources_pb2
from zhichao.weighing.v1 import record_pb2

# Speed over a dynamic scale in a gate lane, km/h: slower than on the road that the model was fitted to.
_GATE_SPEED_KMH = (4, 15)
# One terminal in three sends along the colour code of the toll system.
_RAW_COLOR_SHARE = 0.33
# Sites that know the class know the axle groups of the truck more often than not.
_GROUP_CODES_SHARE = 0.7
# Of trucks without a plate, the share for which the terminal sends the word instead of nothing.
_NO_PLATE_WORD_SHARE = 0.3
NO_PLATE = "无牌"
# A terminal's clock is at most this many deviations off; more is a broken terminal, which is not simulated.
_CLOCK_DEVIATIONS_MAX = 3
# A truck unloads to well below the limit, never exactly to it.
_REWEIGH_LOAD = (0.88, 0.98)


@dataclass(frozen=True)
class _Visit:
    """A truck on the premises."""

    visit_id: str
    truck: Truck
    goods: str
    has_plate: bool
    tare_kg: int | None = None
    # Set when the truck comes back to be weighed again.
    parent_record_id: str = ""
    slip_number: str = ""


@dataclass(frozen=True)
class Measured:
    """A record with what the generator knows about it and the terminal does not."""

    record: record_pb2.WeighingRecord
    is_overload: bool


@dataclass
class Terminal:
    """Makes the records of one scale, one for each call of `weigh`, with times that never go back."""

    station: Station
    options: TrafficOptions
    model: TruckModel
    seed: int
    _due: list[tuple[float, int, Callable[[datetime, float], Measured]]] = field(default_factory=list)
    _made: int = 0

    def __post_init__(self) -> None:
        scale = self.station.scale
        self._rng = seeded_random("terminal", self.seed, scale.source_unit_id, scale.scale_id)
        deviation = self.options.clock_error_seconds
        error = self._rng.gauss(0, 1)
        self.clock_error_seconds = deviation * min(_CLOCK_DEVIATIONS_MAX, max(-_CLOCK_DEVIATIONS_MAX, error))
        self._sends_raw_color = self._rng.random() < _RAW_COLOR_SHARE
        self._is_dynamic = scale.kind == resources_pb2.SCALE_KIND_DYNAMIC
        self._division_kg = scale.division_kg or 20

    @property
    def name(self) -> str:
        """Return the name of the terminal: unit and scale."""
        return f"{self.station.scale.source_unit_id}/{self.station.scale.scale_id}"

    def wants_new_truck(self, offset_seconds: float) -> bool:
        """Say whether the next weighing is of a truck that was not here before, so that it may be an overload."""
        return not self._due or self._due[0][0] > offset_seconds

    def weigh(self, start_time: datetime, offset_seconds: float, *, is_overload: bool = False) -> Measured:
        """Weigh the truck that is due, or else a new one, at the given time after the start."""
        if not self.wants_new_truck(offset_seconds):
            return heapq.heappop(self._due)[2](start_time, offset_seconds)
        rng, options = self._rng, self.options
        truck = self.model.draw(rng)
        visit = _Visit(
            visit_id=f"V{rng.getrandbits(48):012X}",
            truck=truck,
            goods=rng.choice(self.station.goods),
            has_plate=rng.random() >= options.no_plate_rate,
        )
        if not is_overload and rng.random() < options.tare_rate:
            return self._weigh_empty(visit, start_time, offset_seconds)
        return self._weigh_loaded(visit, start_time, offset_seconds, is_overload=is_overload)

    def _weigh_empty(self, visit: _Visit, start_time: datetime, offset_seconds: float) -> Measured:
        tare_kg = self._shown(visit.truck.tare_kg)
        loaded = _Visit(visit.visit_id, visit.truck, visit.goods, visit.has_plate, tare_kg=tare_kg)
        self._later(
            offset_seconds,
            self.options.loading_seconds,
            lambda start, offset: self._weigh_loaded(loaded, start, offset, is_overload=False),
        )
        record = self._record(visit, start_time, offset_seconds, record_pb2.WEIGHING_EVENT_TARE, tare_kg)
        return Measured(record, is_overload=False)

    def _weigh_loaded(
        self, visit: _Visit, start_time: datetime, offset_seconds: float, *, is_overload: bool
    ) -> Measured:
        rng, truck = self._rng, visit.truck
        if is_overload:
            # Rounded up, so that the steps of the scale do not bring it nearer to the limit.
            gross_kg = self._shown(self.model.draw_overloaded_kg(rng, truck)) + self._division_kg
        else:
            gross_kg = self._shown(self.model.draw_loaded_kg(rng, truck))
        record = self._record(
            visit, start_time, offset_seconds, record_pb2.WEIGHING_EVENT_GROSS, gross_kg, is_certain=is_overload
        )
        # The slip carries the day of the site: China Standard Time.
        day = start_time + timedelta(hours=8, seconds=offset_seconds)
        record.loading_slip_number = f"{day:%Y%m%d}{self._made:07d}"
        if is_overload and rng.random() < self.options.reweigh_rate:
            back = _Visit(
                visit.visit_id,
                truck,
                visit.goods,
                visit.has_plate,
                visit.tare_kg,
                parent_record_id=record.record_id,
                slip_number=record.loading_slip_number,
            )
            self._later(
                offset_seconds,
                self.options.reweigh_seconds,
                lambda start, offset: self._weigh_again(back, start, offset),
            )
        return Measured(record, is_overload)

    def _weigh_again(self, visit: _Visit, start_time: datetime, offset_seconds: float) -> Measured:
        gross_kg = self._shown(round(visit.truck.strict_limit_kg * self._rng.uniform(*_REWEIGH_LOAD)))
        record = self._record(
            visit, start_time, offset_seconds, record_pb2.WEIGHING_EVENT_REWEIGH, gross_kg, is_certain=True
        )
        record.parent_record_id = visit.parent_record_id
        record.loading_slip_number = visit.slip_number
        return Measured(record, is_overload=False)

    def _record(
        self,
        visit: _Visit,
        start_time: datetime,
        offset_seconds: float,
        event: record_pb2.WeighingEvent.ValueType,
        gross_kg: int,
        *,
        is_certain: bool = False,
    ) -> record_pb2.WeighingRecord:
        """Make the record; `is_certain` keeps everything that the limit depends on."""
        rng, scale = self._rng, self.station.scale
        weigh_time = start_time + timedelta(seconds=offset_seconds + self.clock_error_seconds)
        milliseconds = (weigh_time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        self._made += 1
        record = record_pb2.WeighingRecord(
            record_id=make_record_id(rng, milliseconds),
            source_unit_id=scale.source_unit_id,
            weighing_point_id=scale.weighing_point_id,
            scale_id=scale.scale_id,
            event=event,
            gross_weight_kg=gross_kg,
            visit_id=visit.visit_id,
            vehicle=self._vehicle(visit.truck, gross_kg, is_certain=is_certain),
        )
        record.weigh_time.FromMilliseconds(milliseconds)
        if event != record_pb2.WEIGHING_EVENT_TARE:
            record.goods = visit.goods
            if visit.tare_kg is not None:
                record.tare_weight_kg = visit.tare_kg
                record.net_weight_kg = gross_kg - visit.tare_kg
        self._add_plates(record, visit)
        if self._is_dynamic:
            record.speed_kmh = rng.randint(*_GATE_SPEED_KMH)
            record.lane = rng.choice((1, 1, 1, 2))
        return record

    def _add_plates(self, record: record_pb2.WeighingRecord, visit: _Visit) -> None:
        rng, truck = self._rng, visit.truck
        if not visit.has_plate:
            if rng.random() < _NO_PLATE_WORD_SHARE:
                record.front_plate.number = NO_PLATE
            return
        is_garbled = rng.random() < self.options.garbled_plate_rate
        front = as_read(rng, truck.front_plate, sends_raw_color=self._sends_raw_color, is_garbled=is_garbled)
        record.front_plate.CopyFrom(front)
        if truck.rear_plate is not None:
            rear = as_read(rng, truck.rear_plate, sends_raw_color=self._sends_raw_color, is_garbled=False)
            record.rear_plate.CopyFrom(rear)

    def _vehicle(self, truck: Truck, gross_kg: int, *, is_certain: bool) -> record_pb2.Vehicle:
        rng, options = self._rng, self.options
        vehicle = record_pb2.Vehicle()
        knows_class = is_certain or rng.random() >= options.unknown_class_rate
        knows_axles = is_certain or rng.random() >= options.no_axle_count_rate
        if knows_class:
            vehicle.vehicle_class = truck.vehicle_class
            vehicle.drive_axle_count = truck.drive_axle_count
            vehicle.has_air_suspension = False
            vehicle.has_single_tires = False
            if truck.registered_mass_kg is not None:
                vehicle.registered_mass_kg = truck.registered_mass_kg
        if not knows_axles:
            return vehicle
        vehicle.axle_count = truck.axle_count
        if knows_class and rng.random() < _GROUP_CODES_SHARE:
            vehicle.axle_group_codes = truck.group_codes
        if self._is_dynamic and rng.random() < options.axle_detail_rate:
            self._add_axles(vehicle, truck, gross_kg)
            vehicle.length_mm = truck.length_mm
            vehicle.width_mm = 2_550 if truck.axle_count > 2 else 2_400
            vehicle.height_mm = truck.height_mm
        return vehicle

    def _add_axles(self, vehicle: record_pb2.Vehicle, truck: Truck, gross_kg: int) -> None:
        weights = self.model.split_on_axles(self._rng, truck, gross_kg, self._division_kg)
        steering = truck.groups[0]
        for place, weight_kg in enumerate(weights):
            is_steering = place < steering
            axle = vehicle.axles.add(
                weight_kg=weight_kg,
                tires=record_pb2.TIRE_ARRANGEMENT_SINGLE if is_steering else record_pb2.TIRE_ARRANGEMENT_DUAL,
                is_drive=steering <= place < steering + truck.drive_axle_count,
            )
            if place < len(truck.spacings_mm):
                axle.spacing_mm = truck.spacings_mm[place]

    def _shown(self, weight_kg: int) -> int:
        """Return the weight as the scale shows it: in steps of its verification interval, rounded down."""
        return max(self._division_kg * 10, weight_kg // self._division_kg * self._division_kg)

    def _later(self, offset_seconds: float, mean_seconds: float, weigh: Callable[[datetime, float], Measured]) -> None:
        """Let a truck come to the scale again after half to one and a half of the mean time."""
        due = offset_seconds + mean_seconds * self._rng.uniform(0.5, 1.5)
        # The count breaks ties: callables cannot be compared.
        heapq.heappush(self._due, (due, self._made, weigh))


def make_record_id(rng: Random, milliseconds: int) -> str:
    """Make a UUID of version 7 (RFC 9562) from the generator's randomness, so that the same seed makes the same ids."""
    number = (milliseconds & (2**48 - 1)) << 80 | rng.getrandbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
