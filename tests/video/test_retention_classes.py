"""Retention classes: the shipped table, tables of platforms, and what is wrong with tables."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.common.settings import SettingsError
from services.video.app import SHIPPED_RETENTION, load_retention
from services.video.domain import EvidenceKind
from services.video.retention import RetentionTable


def table(**changes: Any) -> dict[str, Any]:
    """Make a table of one class for everything."""
    row: dict[str, Any] = {
        "retention_class": "all",
        "title": "All",
        "title_zh": "全部",
        "days": 30,
        "kinds": ["photo", "clip", "document"],
        "default_of": ["photo", "clip", "document"],
    }
    return {"source_document": "示例〔2026〕1 号", "classes": [row | changes]}


def test_the_shipped_table_names_its_source_and_is_nobodys_standard() -> None:
    shipped = load_retention(None)

    assert "no rule of an authority" in shipped.source_document
    assert {kind.name: shipped.defaults[kind].days for kind in EvidenceKind} == {
        "PHOTO": 1095,
        "CLIP": 90,
        "DOCUMENT": 1095,
    }


def test_a_platform_has_a_table_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps(table()), encoding="utf-8")

    found = load_retention(file).class_of(EvidenceKind.CLIP, "")

    assert found.retain_until(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 31, tzinfo=UTC)


def test_a_class_that_is_not_for_the_kind_is_not_taken() -> None:
    shipped = load_retention(None)

    assert shipped.class_of(EvidenceKind.CLIP, "case").days == 1095
    with pytest.raises(ValueError, match=r"is 'photo', but a clip has one of case, clip"):
        shipped.class_of(EvidenceKind.CLIP, "photo")
    with pytest.raises(ValueError, match=r"is 'none', but a photo has one of case, photo"):
        shipped.class_of(EvidenceKind.PHOTO, "none")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        (json.dumps({**table(), "more": 1}), "must be an object"),
        (json.dumps({**table(), "source_document": " "}), "source_document must name"),
        (json.dumps({**table(), "classes": []}), "classes must be a list"),
        (json.dumps({**table(), "classes": [1]}), r"classes\[0\] must be an object"),
        (json.dumps(table(retention_class="No!")), r"classes\[0\].retention_class"),
        (json.dumps(table(title_zh="")), r"classes\[0\].title_zh is missing"),
        (json.dumps(table(days=0)), r"classes\[0\].days must be 1 to"),
        (json.dumps(table(days=True)), r"classes\[0\].days must be 1 to"),
        (json.dumps(table(days=10_981)), r"classes\[0\].days must be 1 to 10980"),
        (json.dumps(table(kinds=[])), r"classes\[0\].kinds is empty"),
        (json.dumps(table(kinds=["film"])), r"classes\[0\].kinds must be a list of photo, clip, document"),
        (json.dumps(table(kinds=["photo"])), r"default_of names what is not among its kinds"),
        (json.dumps(table(default_of=["photo", "clip"])), "no class is the default of document"),
        (json.dumps({**table(), "classes": table()["classes"] * 2}), r"classes\[1\] is the second all"),
        (
            json.dumps({**table(), "classes": [*table()["classes"], *table(retention_class="two")["classes"]]}),
            r"classes\[1\] is the second default",
        ),
    ],
)
def test_a_table_that_cannot_work_is_refused_at_the_start(content: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=what):
        RetentionTable.parse(content)
    file = tmp_path / "classes.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match="ZHICHAO_VIDEO_RETENTION_FILE"):
        load_retention(file)


def test_a_table_that_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_VIDEO_RETENTION_FILE"):
        load_retention(tmp_path / "none.json")


def test_the_shipped_table_is_part_of_the_package() -> None:
    assert SHIPPED_RETENTION.is_file()
