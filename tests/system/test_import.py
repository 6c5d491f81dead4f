"""Real trucks from a file through `zhichao import` into three levels: in order, shuffled, replayed, and broken off."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.import_command import EXIT_FINDINGS
from cli.simulate.site import COUNTY, Station
from cli.token_file import SECRETS_DIRECTORY
from tests.system.checker import Checker
from tests.system.conftest import MakeLevels
from tests.system.history import content_of
from tests.system.levels import Level
from tests.system.reaching import OPERATOR
from tests.system.waiting import wait_until
from zhichao.weighing.v1 import record_pb2

ROOT = Path(__file__).resolve().parents[2]
WIM = ROOT.parent / "shared" / "data" / "wim" / "wim_5000_trucks.csv"

# What the file holds: 29 rows are there twice, 7 ids a second time with other content.
WEIGHINGS, DUPLICATES, CONFLICTS = 4_964, 29, 7
IMPORT_SECONDS_MAX = 90.0
# The import is killed when some of its batches are held and some are not.
KILLED_AFTER_RECORDS = 1_000

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not WIM.exists(), reason=f"{WIM.name} is not beside this checkout (shared/data/wim)"),
]


class Import:
    """One `zhichao import weighings` as a process."""

    def __init__(self, file: Path, level: Level, station: Station, *, batch_records: int = 500) -> None:
        command = [sys.executable, "-m", "cli.main", "import", "weighings", str(file), "--json"]
        command += ["--weighing", level.addresses["weighing"], "--batch", str(batch_records)]
        command += ["--token-file", str(level.directory / SECRETS_DIRECTORY / f"{OPERATOR}.token")]
        command += ["--source-unit", station.scale.source_unit_id, "--point", station.scale.weighing_point_id]
        command += ["--scale", station.scale.scale_id]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self) -> dict[str, Any]:
        """Wait for its end and return what it counted."""
        output, errors = self.process.communicate(timeout=IMPORT_SECONDS_MAX)
        assert self.process.returncode == EXIT_FINDINGS, errors
        counted: dict[str, Any] = json.loads(output.splitlines()[-1])
        return counted

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


def shuffled(file: Path, seed: int) -> Path:
    header, *rows = WIM.read_text("utf-8").splitlines()
    random.Random(f"rows {seed}").shuffle(rows)
    file.write_text("\n".join([header, *rows]), "utf-8")
    return file


def counts(result: dict[str, Any]) -> list[int]:
    return [result[name] for name in ("rows", "accepted", "duplicate", "conflicting", "rejected")]


def contents(checker: Checker, station: Station) -> set[bytes]:
    """Return the distinct rows that are held of a scale, without what names the scale."""
    found: set[bytes] = set()
    held = [weighing.record for weighing in checker.weighings[COUNTY].values()]
    refused = [conflict.record for conflict in checker.conflicts[COUNTY].values()]
    for record in held + refused:
        if record.source_unit_id == station.scale.source_unit_id and not record.record_id.startswith("first-truck"):
            content = record_pb2.WeighingRecord()
            content.CopyFrom(record)
            for name in ("source_unit_id", "weighing_point_id", "scale_id"):
                content.ClearField(name)
            found.add(content_of(content))
    return found


def test_real_trucks_are_held_once_whatever_happens(make_levels: MakeLevels, directory: Path, seed: int) -> None:
    levels = make_levels().start()
    levels.register()
    county = levels.county
    in_order, in_disorder, broken_off = levels.site.stations[:3]
    other_order = shuffled(directory / "shuffled.csv", seed)

    # A window of a few batches is answered before the rest is read, so that there is a middle.
    broken = Import(WIM, county, broken_off, batch_records=20)
    before = county.weighing_size()
    wait_until(lambda: county.weighing_size() >= before + KILLED_AFTER_RECORDS, 60, "the import does not advance")
    broken.kill()
    held_count = county.weighing_size() - before
    assert KILLED_AFTER_RECORDS <= held_count < WEIGHINGS + CONFLICTS, "it was not killed in the middle"

    first = [Import(WIM, county, in_order), Import(other_order, county, in_disorder)]
    for one in first:
        assert counts(one.result()) == [WEIGHINGS + DUPLICATES + CONFLICTS, WEIGHINGS, DUPLICATES, CONFLICTS, 0]
    again = [Import(other_order, county, in_order), Import(WIM, county, in_disorder), Import(WIM, county, broken_off)]
    replayed = [counts(one.result()) for one in again]
    held = WEIGHINGS + DUPLICATES
    assert replayed[:2] == [[held + CONFLICTS, 0, held, CONFLICTS, 0]] * 2
    assert [replayed[2][0], replayed[2][1] + replayed[2][2], *replayed[2][3:]] == [held + CONFLICTS, held, CONFLICTS, 0]

    checker = levels.check(has_other_senders=True)
    rows = [contents(checker, station) for station in (in_order, in_disorder, broken_off)]
    assert [len(found) for found in rows] == [WEIGHINGS + CONFLICTS] * 3
    assert rows[0] == rows[1] == rows[2]
    assert len(checker.conflicts[COUNTY]) == 3 * CONFLICTS
