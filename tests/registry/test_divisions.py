"""The real divisions of 朔州 and 临汾 with their changes of code; skipped where the data is absent."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.registry import examples
from tests.registry.calls import create, get, list_all
from tests.registry.harness import RunningRegistry
from zhichao.registry.v1 import resources_pb2 as pb

ADMIN = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "admin"
CITIES = {"1406": "朔州市", "1410": "临汾市"}
# Codes that the statistics bureau made for zones; GB/T 2260 does not have them (domain notes, section 5).
EXTRA_ZONES = {"140671"}

pytestmark = pytest.mark.skipif(not ADMIN.is_dir(), reason="the division tables in ../shared/data/admin are absent")


def areas() -> list[pb.Division]:
    """Read today's counties of the two cities."""
    with (ADMIN / "areas.csv").open(encoding="utf-8") as file:
        return [
            examples.division(
                division_code=row["code"],
                name=row["name"],
                parent_code=row["cityCode"] + "00",
                valid_from="2018-02-23" if row["code"] == "140681" else "",
                is_extra_zone=row["code"] in EXTRA_ZONES,
            )
            for row in csv.DictReader(file)
            if row["cityCode"] in CITIES
        ]


def _code(event: dict[str, Any], side: str) -> str:
    return str((event[side] or {}).get("code") or "")[:6]


def change_of_huairen() -> dict[str, Any]:
    """Read the event by which 怀仁县 became 怀仁市."""
    events = json.loads((ADMIN / "changes_1406_1410.json").read_text("utf-8"))["events"]
    (event,) = [event for event in events if (_code(event, "old"), _code(event, "new")) == ("140624", "140681")]
    return dict(event)


@pytest.fixture
def loaded(registry: RunningRegistry) -> RunningRegistry:
    create(registry, examples.division(division_code="140000", name="山西省", parent_code="", level=1, valid_from=""))
    for prefix, name in CITIES.items():
        city = examples.division(division_code=f"{prefix}00", name=name, parent_code="140000", level=2, valid_from="")
        create(registry, city)
    for division in areas():
        create(registry, division)
    event = change_of_huairen()
    create(
        registry,
        examples.division(
            division_code=event["old"]["code"][:6],
            name=event["old"]["name"],
            parent_code="140600",
            valid_from="",
            valid_until="2018-02-23",
            successor_code=event["new"]["code"][:6],
        ),
    )
    return registry


def test_real_divisions_are_taken_without_a_doubt(loaded: RunningRegistry) -> None:
    divisions = list_all(loaded, pb.Division(), page_size=7)
    assert len(divisions) == 1 + 2 + 24 + 1
    assert [division.division_code for division in divisions if division.info.warnings] == []


def test_huairen_has_one_code_on_each_day(loaded: RunningRegistry) -> None:
    def codes(day: str) -> set[str]:
        divisions = list_all(loaded, pb.Division(), parent_code="140600", valid_on=day)
        return {division.division_code for division in divisions if division.name.startswith("怀仁")}

    assert codes("2018-02-22") == {"140624"}
    assert codes("2018-02-23") == {"140681"}


def test_an_old_code_is_found_and_names_its_successor(loaded: RunningRegistry) -> None:
    old = get(loaded, pb.Division(division_code="140624"))
    assert (old.name, old.successor_code) == ("怀仁县", "140681")
    assert get(loaded, pb.Division(division_code="140681")).name == "怀仁市"


def test_the_extra_zone_may_own_units(loaded: RunningRegistry) -> None:
    zone = get(loaded, pb.Division(division_code="140671"))
    assert (zone.is_extra_zone, zone.parent_code) == (True, "140600")
    unit = examples.source_unit(division_code="140671", data_home_code="140600", enforcement_code="140600")
    assert list(create(loaded, unit).info.warnings) == []
