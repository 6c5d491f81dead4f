"""Fit the traffic model of `zhichao simulate` to a file of weigh-in-motion records.

Only aggregated parameters leave this tool: shares, means, deviations and mixture components of layouts with at least
TRUCKS_MIN trucks. No row of the file is copied, so the licence of the rows does not reach the product.
"""

import argparse
import csv
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, pstdev
from typing import cast

TARGET = Path(__file__).resolve().parent.parent / "cli" / "simulate" / "traffic_model.json"

# Axles closer than this share a group: tandems and tridems lie at 1.0-1.4 m, twin steering axles at 1.7-2.0 m, and the
# next larger distance in real traffic is the 2.5 m between the axles of short rigid trucks.
GROUP_SPACING_MAX_MM = 2_100
# A layout with fewer trucks is left out: its parameters would be noise, or a row in disguise.
TRUCKS_MIN = 12
# Below this a layout is fitted with one component instead of an empty and a loaded one.
MIXTURE_TRUCKS_MIN = 60
# Means that move less than this are the same in every digit that is written; the slowest layout takes most rounds.
CONVERGED = 1e-6
EM_ROUNDS = 300


@dataclass(frozen=True)
class Truck:
    """What the fit needs of one row."""

    gross_kg: int
    speed_kmh: int
    weights_kg: tuple[int, ...]
    spacings_mm: tuple[int, ...]

    @property
    def layout(self) -> str:
        """Return the number of axles in each group from the front, for example `1+2+3`."""
        groups = [1]
        for spacing_mm in self.spacings_mm:
            if spacing_mm <= GROUP_SPACING_MAX_MM:
                groups[-1] += 1
            else:
                groups.append(1)
        return "+".join(map(str, groups))


@dataclass(frozen=True)
class Component:
    """One log-normal component of the gross weights of a layout."""

    share: float
    log_mean: float
    log_sd: float


def read(path: Path) -> Iterator[Truck]:
    """Read the trucks of a file whose columns are named like those of wim_5000_trucks.csv, each record number once."""
    seen: set[str] = set()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["record_no"] in seen:
                continue
            seen.add(row["record_no"])
            axles = int(row["axles"])
            yield Truck(
                gross_kg=int(row["gvw_kg"]),
                speed_kmh=int(row["speed_kmh"]),
                weights_kg=tuple(int(row[f"w{axle}_kg"]) for axle in range(1, axles + 1)),
                spacings_mm=tuple(int(row[f"s{axle}_{axle + 1}_mm"]) for axle in range(1, axles)),
            )


def mixture(values: Sequence[float]) -> list[Component]:
    """Fit an empty and a loaded component to logarithms of gross weights (EM), lightest first."""
    ordered = sorted(values)
    if len(ordered) < MIXTURE_TRUCKS_MIN:
        return [Component(1.0, fmean(ordered), max(pstdev(ordered), 0.05))]
    spread = pstdev(ordered) / 2
    components = [
        Component(0.5, ordered[len(ordered) // 4], spread),
        Component(0.5, ordered[len(ordered) * 3 // 4], spread),
    ]
    for _ in range(EM_ROUNDS):
        shares: list[list[float]] = []
        for value in ordered:
            densities = [part.share * NormalDist(part.log_mean, part.log_sd).pdf(value) for part in components]
            total = sum(densities) or math.ulp(0.0)
            shares.append([density / total for density in densities])
        fitted = [weighted(ordered, [share[index] for share in shares]) for index in range(len(components))]
        moved = max(abs(new.log_mean - old.log_mean) for new, old in zip(fitted, components, strict=True))
        components = fitted
        if moved < CONVERGED:
            break
    return sorted(components, key=lambda part: part.log_mean)


def weighted(values: Sequence[float], shares: Sequence[float]) -> Component:
    """Fit one component to values that belong to it in part."""
    total = sum(shares)
    mean = sum(value * share for value, share in zip(values, shares, strict=True)) / total
    variance = sum(share * (value - mean) ** 2 for value, share in zip(values, shares, strict=True)) / total
    # A component may not collapse on one rounded value.
    return Component(total / len(values), mean, max(math.sqrt(variance), 0.02))


def axle_shares(trucks: Sequence[Truck]) -> list[dict[str, float]]:
    """Return mean and deviation of each axle's share of the gross weight."""
    shares = [[weight / sum(truck.weights_kg) for weight in truck.weights_kg] for truck in trucks]
    return [{"mean": round(fmean(column), 4), "sd": round(pstdev(column), 4)} for column in zip(*shares, strict=True)]


def fit_layout(layout: str, trucks: Sequence[Truck], total: int) -> dict[str, object]:
    """Return the parameters of one layout."""
    components = mixture([math.log(truck.gross_kg) for truck in trucks])
    border_kg = math.exp(fmean(part.log_mean for part in components))
    loaded = [truck for truck in trucks if truck.gross_kg >= border_kg]
    empty = [truck for truck in trucks if truck.gross_kg < border_kg] or loaded
    return {
        "layout": layout,
        "share": round(len(trucks) / total, 5),
        "gross": [
            {
                "share": round(part.share, 4),
                "median_kg": round(math.exp(part.log_mean)),
                "log_sd": round(part.log_sd, 4),
            }
            for part in components
        ],
        "empty_axle_shares": axle_shares(empty),
        "loaded_axle_shares": axle_shares(loaded),
        "spacings_mm": [
            {"mean": round(fmean(column)), "sd": round(pstdev(column))}
            for column in zip(*(truck.spacings_mm for truck in trucks), strict=True)
        ],
    }


def fit(trucks: Sequence[Truck]) -> dict[str, object]:
    """Return the whole model."""
    by_layout: dict[str, list[Truck]] = defaultdict(list)
    for truck in trucks:
        by_layout[truck.layout].append(truck)
    kept = {layout: group for layout, group in by_layout.items() if len(group) >= TRUCKS_MIN}
    total = sum(map(len, kept.values()))
    speeds = [truck.speed_kmh for truck in trucks]
    return {
        "about": "Aggregated parameters made by tools/fit_traffic.py from weigh-in-motion records; no row is copied.",
        "trucks": len(trucks),
        "left_out": len(trucks) - total,
        "speed_kmh": {"mean": round(fmean(speeds), 1), "sd": round(pstdev(speeds), 1)},
        "layouts": [
            fit_layout(layout, group, total)
            for layout, group in sorted(kept.items(), key=lambda item: (-len(item[1]), item[0]))
        ],
    }


def written(model: dict[str, object]) -> str:
    """Write the model as JSON with one layout a line, so that a new fit shows as a readable difference."""
    head = {name: value for name, value in model.items() if name != "layouts"}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    layouts = ",\n".join(f"  {json.dumps(layout)}" for layout in cast("list[object]", model["layouts"]))
    return "{\n" + "\n".join(lines) + f'\n "layouts": [\n{layouts}\n ]\n}}\n'


def main() -> int:
    """Fit the model to the file given and write it."""
    parser = argparse.ArgumentParser(description="Fit the traffic model to a weigh-in-motion file.")
    parser.add_argument("file", type=Path, help="CSV with the columns of wim_5000_trucks.csv")
    parser.add_argument("--output", type=Path, default=TARGET, help=f"file to write (default: {TARGET.name})")
    arguments = parser.parse_args()
    trucks = list(read(arguments.file))
    if not trucks:
        print("the file holds no trucks", file=sys.stderr)
        return 1
    model = fit(trucks)
    arguments.output.write_text(written(model), encoding="utf-8")
    print(f"{model['trucks']} trucks fitted, {model['left_out']} in rare layouts left out: {arguments.output.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
