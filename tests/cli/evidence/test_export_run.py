"""A weighing with photo and clip, from the trucks of `zhichao run` to a bundle that is checked without a platform."""

import json
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.platform_layout import is_free
from cli.simulate.media import make_clip
from tests.cli.test_run import SECONDS_MAX, Run, Start, assert_nothing_runs, start
from tests.cli.test_simulate_media import SCENE
from tests.waiting import wait_until

__all__ = ["start"]
# A fixture of the tests of `zhichao run`, which pytest finds by its name here.

COUNTY, PROVINCE = "141025", "140000"


def zhichao(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "200"})


def done(*arguments: object) -> Any:
    result = zhichao(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def sealed_of_suspected(run: Run, ledger: Path) -> Sequence[dict[str, Any]]:
    """Wait until photo and clip of a suspected overload are sealed; return what the cameras were told."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        lines = ledger.read_text().splitlines(keepends=True) if ledger.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        clips = {one["record_id"] for one in found if one["is_clip"]}
        both = [one for one in found if one["record_id"] in clips]
        for record in clips:
            if len(pair := [one for one in both if one["record_id"] == record]) == 2:
                return pair
        assert run.process.poll() is None, run.output
        assert time.monotonic() < deadline, f"nothing was filmed:\n{run.output}"
        time.sleep(0.2)


def refused(*arguments: object) -> str:
    result = zhichao("evidence", *arguments)
    assert result.exit_code == 1, result.output
    return result.output


def check_on_demand(data: Path, directory: Path) -> None:
    """Export a weighing of which only the county has the clip, at the province: refused, without it, once it came."""
    ledger = [json.loads(line) for line in (data / "ledger.jsonl").read_text().splitlines()]
    photographed = {json.loads(line)["record_id"] for line in (data / "evidence.jsonl").read_text().splitlines()}
    line = next(one for one in ledger if one["verdict"] == "VERDICT_COMPLIANT" and one["record_id"] not in photographed)
    unit, weighing = line["source_unit_id"], f"{line['source_unit_id']}/{line['record_id']}"
    assert "no evidence" in refused("export", weighing, "--purpose", "x", "--data", data / COUNTY)
    clip = directory / "asked-for.mp4"
    clip.write_bytes(make_clip(SCENE).content)
    taken = datetime.now(UTC).isoformat()
    options = ("--unit", unit, "--record", line["record_id"], "--taken", taken, "--data", data / COUNTY)
    name = done("evidence", "upload", clip, *options)["name"]
    wait_until(
        lambda: zhichao("evidence", "show", name, "--data", data / PROVINCE).exit_code == 0, "the manifest goes up"
    )
    out, without_bytes = directory / "on-demand.zip", directory / "without-bytes.zip"
    export = ("export", weighing, "--purpose", "x", "--data", data / PROVINCE, "--out")
    assert "the bytes are not here" in refused(*export, out)
    assert not out.exists()
    assert done("evidence", *export, without_bytes, "--allow-missing-bytes")["evidence_count"] == 1
    assert [one["bytes_state"] for one in done("verify", without_bytes)["evidence"]] == ["BELOW"]
    fetched = done("evidence", "fetch", name, "--purpose", "调取", "--wait", "90", "--data", data / PROVINCE)
    assert fetched["bytes_state"] == "BYTES_STATE_HELD"
    assert done("evidence", *export, out)["evidence_count"] == 1
    document = done("verify", out)
    assert [one["bytes_state"] for one in document["evidence"]] == ["HELD"]
    assert document["custody_unproven_count"] == 0
    # The county was told that the province asked, and cannot prove it: it does not hold the province's log.
    told = directory / "told.zip"
    done("evidence", "export", weighing, "--purpose", "x", "--out", told, "--data", data / COUNTY)
    document = done("verify", told)
    assert document["is_right"], document["findings"]
    assert document["custody_unproven_count"] == 1


def is_held(name: str, data: Path) -> bool:
    return zhichao("evidence", "show", name, "--data", data).exit_code == 0


# Three platforms are started, a dozen commands wait for what goes up and comes back, and all is verified at the end.
@pytest.mark.timeout(400)
@pytest.mark.system
def test_a_weighing_is_exported_at_county_and_province_and_checked_when_no_platform_is_left(
    start: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    run = start("--rate", "10", "--overload-rate", "0.2", "--photo-every", "5", "--data", str(data))
    pair = sealed_of_suspected(run, data / "evidence.jsonl")
    unit, record = pair[0]["source_unit_id"], pair[0]["record_id"]
    digests = {one["digest"] for one in pair}

    # Fetching what comes by itself changes nothing but that it is waited for.
    for one in pair:
        name = f"{COUNTY}/{unit}/{one['evidence_id']}"
        # Sealed a moment ago: the manifest is on its way.
        wait_until(partial(is_held, name, data / PROVINCE), f"the province holds {name}", SECONDS_MAX)
        fetched = done("evidence", "fetch", name, "--purpose", "复核", "--wait", "90", "--data", data / PROVINCE)
        assert fetched["bytes_state"] == "BYTES_STATE_HELD"
    bundles = {}
    for platform in (COUNTY, PROVINCE):
        path = bundles[platform] = tmp_path / f"{platform}.zip"
        made = done(
            "evidence", "export", f"{unit}/{record}", "--purpose", "移送", "--out", path, "--data", data / platform
        )
        assert made["evidence_count"] == 2
    assert "no weighing" in refused("export", f"{unit}/none", "--purpose", "x", "--data", data / COUNTY)
    check_on_demand(data, tmp_path)
    addresses = json.loads((data / COUNTY / "platform.json").read_text())["addresses"]

    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0, run.output
    assert "Evidence sealed, held 已封存证据清单" in run.output
    assert_nothing_runs(data)

    # Nobody is left to ask.
    assert all(is_free("127.0.0.1", int(address.rpartition(":")[2])) for address in addresses.values())
    for platform, path in bundles.items():
        document = done("verify", path)
        assert document["is_right"], document["findings"]
        assert document["platform"] == platform
        assert {one["sha256"] for one in document["evidence"]} == digests
        assert document["weighing"]["record"]["record_id"] == record
        assert document["weighing"]["judgement"]["verdict"] == "VERDICT_SUSPECTED"
        assert document["rule_set_is_proven"]
        # The province knows its own key and those below; the county has cosignatures of keys that it does not know.
        county_logs = [log for log in document["logs"] if log["name"].endswith(COUNTY)]
        assert len(county_logs) == 3
        assert all(log["cosigners"] for log in county_logs), county_logs
        if platform == PROVINCE:
            assert all(is_valid for log in county_logs for is_valid in log["cosigners"].values())
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert zhichao("evidence", "verify", path).exit_code == 1


@pytest.mark.system
def test_a_run_without_photos_has_none(start: Start, tmp_path: Path) -> None:
    run = start("--rate", "20", "--for", "1", "--photo-every", "0", "--json", "--data", str(tmp_path / "data"))
    assert run.end() == 0, run.output
    document = json.loads("".join(run.lines))
    assert document["evidence"] == {
        "photo_every": 0,
        "sealed": 0,
        "weighings_with_photo": 0,
        "weighings_without_photo": document["acknowledged"],
        "levels": [],
    }
