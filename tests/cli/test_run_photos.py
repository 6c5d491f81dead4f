"""Which weighings have a photo is counted from the ledgers, and said plainly."""

import json
from pathlib import Path

import pytest

from cli.run_ledger import Acknowledged, record_key
from cli.run_photos import PhotoCheck, Photos, photo_line

UNIT = "141025-001"


def weighed(path: Path, count: int) -> Acknowledged:
    lines = [
        {
            "outcome": "acknowledged",
            "source_unit_id": UNIT,
            "record_id": f"r-{number}",
            "origin": "141025",
            "sequence": number,
            "leaf_digest": f"{number:064x}",
        }
        for number in range(1, count + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return Acknowledged.read(path)


def photos_of(tmp_path: Path, count: int, *sealed: tuple[str, str], cut: str = "") -> Photos:
    path = tmp_path / "evidence.jsonl"
    lines = [
        {
            "source_unit_id": UNIT,
            "record_id": record_id,
            "evidence_id": f"{record_id}.{kind}",
            "is_clip": kind == "clip",
        }
        for record_id, kind in sealed
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + cut, "utf-8")
    return Photos.read(path, weighed(tmp_path / "ledger.jsonl", count))


def test_weighings_with_and_without_a_photo_are_counted_once_each(tmp_path: Path) -> None:
    photos = photos_of(
        tmp_path,
        4,
        ("r-1", "photo"),
        # Sealed in the run before, and once more.
        ("r-1", "photo"),
        # A clip is no photo, and what was never acknowledged is no weighing.
        ("r-2", "clip"),
        ("r-9", "photo"),
        ("r-3", "photo"),
        cut='{"source_unit_id"',
    )
    assert (photos.count, photos.lacking_count) == (2, 2)


def test_no_ledger_is_no_photo(tmp_path: Path) -> None:
    photos = Photos.read(tmp_path / "none", weighed(tmp_path / "ledger.jsonl", 3))
    assert (photos.count, photos.lacking_count) == (0, 3)


def test_a_level_has_the_photos_whose_manifests_it_holds(tmp_path: Path) -> None:
    check = PhotoCheck(photos_of(tmp_path, 2, ("r-1", "photo"), ("r-2", "photo"), ("r-2", "clip")))
    for evidence_id in ("r-2.photo", "r-2.photo", "r-2.clip", "other"):
        check.note(record_key(UNIT, evidence_id))
    assert check.held_count == 1


@pytest.mark.parametrize(
    ("every", "left_out", "said", "said_zh"),
    [
        (1, 1, "1 were left out because this machine does not keep up", "因本机处理不及"),
        (2, 0, "one of 2 is photographed on purpose", "每 2 次称重拍一张"),
        (0, 0, "none were asked for", "按设置不拍照"),
        (1, 0, "not sealed", "未能封存"),
    ],
)
def test_how_many_have_none_is_said_with_the_reason(
    tmp_path: Path, every: int, left_out: int, said: str, said_zh: str
) -> None:
    english, chinese = photo_line(
        photos_of(tmp_path, 3, ("r-1", "photo"), ("r-2", "photo")), every=every, left_out_count=left_out
    ).splitlines()
    assert english.startswith("PHOTOS: 2 of 3 weighings have one, 1 have none: ")
    assert said in english
    assert chinese.startswith("照片: 3 条称重记录中 2 条有照片, 1 条没有: ")
    assert said_zh in chinese


def test_that_all_have_one_is_said(tmp_path: Path) -> None:
    line = photo_line(photos_of(tmp_path, 1, ("r-1", "photo")), every=1, left_out_count=0)
    assert line == "PHOTOS: each of the 1 weighings has one.\n照片: 1 条称重记录均有照片。"
