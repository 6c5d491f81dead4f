"""Trucks: their layout, limits, weights and dimensions, drawn from the fitted model and adapted to source units.

The model comes from road traffic elsewhere; the tables below say how it is bent to Chinese trucks that leave a mine or
works. The limits are kept here a second time on purpose: the generator must know the truth without asking the judge.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from cli.simulate.plates import draw_plate, draw_trailer_plate
from zhichao.weighing.v1 import record_pb2

_RIGID = record_pb2.VEHICLE_CLASS_RIGID_TRUCK
_ARTICULATED = record_pb2.VEHICLE_CLASS_ARTICULATED
_FULL_TRAILER = record_pb2.VEHICLE_CLASS_FULL_TRAILER


@dataclass(frozen=True)
class _Adaptation:
    """What a layout of the model stands for at a source unit."""

    vehicle_class: record_pb2.VehicleClass.ValueType
    # How much more or less common the layout is at a source unit than on the measured road.
    factor: float
    # Below this a truck is under every shipped rule set (order-62-2016 and the chart of 2016).
    strict_limit_kg: int
    # Above this a truck is over every one of them, also with air suspension.
    generous_limit_kg: int
    # Typical empty weight.
    tare_kg: int
    # Axle-group codes of the trade (domain.md, section 3).
    group_codes: str
    drive_axle_count: int
    # Front and rear overhang together; the model knows axle distances only.
    overhang_mm: int


# Vans make a third of road traffic, four-axle tippers a third of a quarry's; nine axles are abnormal transports here.
_ADAPTATIONS = {
    "1+1": _Adaptation(_RIGID, 0.25, 18_000, 18_000, 6_100, "12", 1, 2_600),
    "1+2": _Adaptation(_RIGID, 0.5, 25_000, 26_000, 10_400, "15", 2, 2_800),
    "2+2": _Adaptation(_RIGID, 8.0, 31_000, 32_000, 14_300, "35", 2, 2_900),
    "1+1+1": _Adaptation(_ARTICULATED, 0.3, 27_000, 27_000, 9_600, "122", 1, 2_700),
    "1+1+2": _Adaptation(_ARTICULATED, 0.6, 36_000, 37_000, 12_500, "125", 1, 3_000),
    "1+2+2": _Adaptation(_ARTICULATED, 0.6, 43_000, 43_000, 14_600, "155", 2, 3_000),
    # 43 t by order 62, 42 t by the chart.
    "1+1+3": _Adaptation(_ARTICULATED, 4.0, 42_000, 43_000, 14_200, "127", 1, 3_000),
    "1+2+3": _Adaptation(_ARTICULATED, 2.0, 49_000, 49_000, 15_900, "157", 2, 3_000),
    "1+2+2+2": _Adaptation(_FULL_TRAILER, 0.2, 49_000, 49_000, 18_500, "1555", 2, 3_000),
    "1+2+3+2": _Adaptation(_FULL_TRAILER, 0.2, 49_000, 49_000, 19_500, "1575", 2, 3_000),
    "1+2+3+3": _Adaptation(_FULL_TRAILER, 0.02, 49_000, 49_000, 21_500, "1577", 2, 3_000),
}

# A six-axle combination with a single drive axle is limited to 46 t (order 62, article 3).
_SINGLE_DRIVE_SHARE = 0.03
_SINGLE_DRIVE_LIMIT_KG = 46_000

# Two-axle trucks up to this total mass carry small plates.
_SMALL_PLATE_MASS_KG = 4_500
# Registered masses of two-axle trucks, and how many trucks in a hundred have them.
_TWO_AXLE_MASSES_KG = (4_495, 10_000, 16_000, 18_000)
_TWO_AXLE_WEIGHTS = (10, 10, 20, 60)

# A source unit fills trucks up to the limit; half-empty ones belong to the road. So the spread of the loaded component
# is narrowed, and its 97th percentile (1.88 deviations) placed at the limit; what lies above is drawn again.
_LOADED_SPREAD = 0.3
_LIMIT_DEVIATIONS = 1.88
_DRAWS_MAX = 8

# A deliberate overload starts at 12 % above the generous limit, beyond the 5 % of dynamic scales; few exceed 60 %.
_OVERLOAD_FACTOR_MIN = 1.12
_OVERLOAD_FACTOR_MEAN_EXCESS = 0.16
_OVERLOAD_FACTOR_MAX = 2.0
# One overload in twenty is a hundred-tonner (百吨王), if it has six axles or more.
_EXTREME_SHARE = 0.05
_EXTREME_KG = (100_000, 118_000)

# Spacings within a group that GB 1589 gives the full group limit: 18 t for two axles, 24 t for three.
_TANDEM_MM = (1_310, 1_450)
_TRIDEM_MM = (1_305, 1_380)


@dataclass(frozen=True)
class Truck:
    """One truck as it really is; what a terminal knows of it is less."""

    layout: str
    vehicle_class: record_pb2.VehicleClass.ValueType
    group_codes: str
    axle_count: int
    drive_axle_count: int
    strict_limit_kg: int
    generous_limit_kg: int
    tare_kg: int
    registered_mass_kg: int | None
    spacings_mm: tuple[int, ...]
    length_mm: int
    height_mm: int
    front_plate: record_pb2.Plate
    rear_plate: record_pb2.Plate | None

    @property
    def groups(self) -> tuple[int, ...]:
        """Return the number of axles in each group from the front."""
        return tuple(map(int, self.layout.split("+")))


class TruckModel:
    """Draws trucks and their loads from the fitted parameters."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        layouts = [layout for layout in parameters["layouts"] if layout["layout"] in _ADAPTATIONS]
        self._by_layout: dict[str, dict[str, Any]] = {layout["layout"]: layout for layout in layouts}
        self._names = list(self._by_layout)
        self._weights = [layout["share"] * _ADAPTATIONS[layout["layout"]].factor for layout in layouts]

    def draw(self, rng: Random) -> Truck:
        """Draw a truck."""
        name = rng.choices(self._names, self._weights)[0]
        layout, adaptation = self._by_layout[name], _ADAPTATIONS[name]
        strict_kg, generous_kg = adaptation.strict_limit_kg, adaptation.generous_limit_kg
        drive_axles = adaptation.drive_axle_count
        tare_kg = adaptation.tare_kg
        registered_kg = None
        if name == "1+1":
            registered_kg = rng.choices(_TWO_AXLE_MASSES_KG, _TWO_AXLE_WEIGHTS)[0]
            strict_kg = generous_kg = registered_kg
            tare_kg = tare_kg * registered_kg // 18_000
        elif name == "1+2+3" and rng.random() < _SINGLE_DRIVE_SHARE:
            strict_kg, drive_axles = _SINGLE_DRIVE_LIMIT_KG, 1
        spacings = self._draw_spacings(rng, layout)
        is_combination = adaptation.vehicle_class != _RIGID
        return Truck(
            layout=name,
            vehicle_class=adaptation.vehicle_class,
            group_codes=adaptation.group_codes,
            axle_count=len(spacings) + 1,
            drive_axle_count=drive_axles,
            strict_limit_kg=strict_kg,
            generous_limit_kg=generous_kg,
            tare_kg=round(tare_kg * math.exp(rng.gauss(0, 0.05))),
            registered_mass_kg=registered_kg,
            spacings_mm=spacings,
            length_mm=sum(spacings) + adaptation.overhang_mm,
            height_mm=rng.randint(2_600, 3_950),
            front_plate=draw_plate(rng, is_large=registered_kg is None or registered_kg > _SMALL_PLATE_MASS_KG),
            rear_plate=draw_trailer_plate(rng) if is_combination else None,
        )

    def _draw_spacings(self, rng: Random, layout: dict[str, Any]) -> tuple[int, ...]:
        """Draw the distances between axles; those within a rear group are moved to what Chinese trucks have."""
        spacings: list[int] = []
        groups = [int(size) for size in layout["layout"].split("+")]
        # For each distance: the size of the group that it lies in, or 0 between groups.
        inside = [size if place < size - 1 else 0 for size in groups for place in range(size)][:-1]
        for place, (size, fitted) in enumerate(zip(inside, layout["spacings_mm"], strict=True)):
            if size and place > 0:
                low, high = _TANDEM_MM if size == 2 else _TRIDEM_MM
                spacings.append(min(high, max(low, round(rng.gauss((low + high) / 2, 25)))))
            else:
                mean, deviation = fitted["mean"], min(fitted["sd"], fitted["mean"] * 0.2)
                spacings.append(round(min(mean * 1.5, max(mean * 0.6, rng.gauss(mean, deviation)))))
        return tuple(spacings)

    def draw_loaded_kg(self, rng: Random, truck: Truck) -> int:
        """Draw a gross weight below the limit of every shipped rule set."""
        deviation = self._by_layout[truck.layout]["gross"][-1]["log_sd"] * _LOADED_SPREAD
        limit_log = math.log(truck.strict_limit_kg)
        for _ in range(_DRAWS_MAX):
            gross_kg = round(math.exp(rng.gauss(limit_log - _LIMIT_DEVIATIONS * deviation, deviation)))
            if truck.tare_kg < gross_kg < truck.strict_limit_kg * 0.995:
                return gross_kg
        return round(truck.strict_limit_kg * rng.uniform(0.9, 0.98))

    def draw_overloaded_kg(self, rng: Random, truck: Truck) -> int:
        """Draw a gross weight above the limit of every shipped rule set with its tolerance."""
        if truck.axle_count >= 6 and rng.random() < _EXTREME_SHARE:
            return rng.randint(*_EXTREME_KG)
        factor = _OVERLOAD_FACTOR_MIN + rng.expovariate(1 / _OVERLOAD_FACTOR_MEAN_EXCESS)
        return math.ceil(truck.generous_limit_kg * min(factor, _OVERLOAD_FACTOR_MAX))

    def split_on_axles(self, rng: Random, truck: Truck, gross_kg: int, division_kg: int) -> list[int]:
        """Split a gross weight on the axles in steps of the scale; the sum is the gross weight."""
        state = "loaded" if gross_kg > truck.tare_kg * 1.3 else "empty"
        shares = [
            max(share["mean"] * 0.5, rng.gauss(share["mean"], share["sd"] * 0.5))
            for share in self._by_layout[truck.layout][f"{state}_axle_shares"]
        ]
        total = sum(shares)
        weights = [max(division_kg, round(gross_kg * share / total / division_kg) * division_kg) for share in shares]
        heaviest = weights.index(max(weights))
        weights[heaviest] += gross_kg - sum(weights)
        return weights


@cache
def default_model() -> TruckModel:
    """Return the shipped model."""
    return TruckModel(json.loads(files("cli.simulate").joinpath("traffic_model.json").read_text(encoding="utf-8")))
