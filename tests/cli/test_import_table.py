"""Reading of files as they come from the field: encodings, separators, damage, and names that mean something."""

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from cli.importer.conversion import RecordConverter, find_zone
from cli.importer.fields import FIELDS
from cli.importer.mapping import (
    MappingError,
    Target,
    guess,
    map_columns,
    parse_target,
    read_wishes,
    recognise,
    shipped_mappings,
    unit_shown,
)
from cli.importer.table import ROW_BYTES_MAX, Table, TableError
from zhichao.weighing.v1 import record_pb2

SHANGHAI = timezone(timedelta(hours=8))


def write(directory: Path, content: bytes) -> Path:
    path = directory / "file.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("号,车牌\n1,晋N12345\n".encode(), "utf-8"),
        ("\ufeff号,车牌\r\n1,晋N12345\r\n".encode(), "utf-8"),
        ("号,车牌\n1,晋N12345\n".encode("gb18030"), "gb18030"),
        (b"a,b\n1,2\n", "utf-8"),
        # One damaged line does not make a file GB18030.
        ("号,车牌\n1,晋N12345\n2,晋N2\n".encode() + b"3,\xff\xfe\n", "utf-8"),
    ],
)
def test_the_encoding_is_found_out(tmp_path: Path, content: bytes, encoding: str) -> None:
    table = Table(write(tmp_path, content))

    assert table.encoding == encoding
    assert next(table.rows()).cells[0] == "1"
    assert not table.header[0].startswith("\ufeff")


def test_utf_16_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="save it as UTF-8"):
        Table(write(tmp_path, "a,b\n".encode("utf-16")))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="empty"):
        Table(write(tmp_path, b""))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found_out(tmp_path: Path, separator: str) -> None:
    table = Table(write(tmp_path, separator.join("abc").encode() + b"\n" + separator.join("123").encode()))

    assert table.header == ["a", "b", "c"]
    assert [row.cells for row in table.rows()] == [["1", "2", "3"]]


def test_quotes_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    content = b'a,b\r\n1,"x, ""y"""\r\n\r\n,\r\n2,"two\r\nlines"\r\n3,z'

    rows = list(Table(write(tmp_path, content)).rows())

    assert [(row.line, row.cells, row.problem) for row in rows] == [
        (2, ["1", 'x, "y"'], ""),
        (5, ["2", "two\r\nlines"], ""),
        (7, ["3", "z"], ""),
    ]


def test_damaged_lines_are_reported_and_the_others_read(tmp_path: Path) -> None:
    lines = [b"a,b", b"1,2", b"only one", b'2,"never closed', b"3,4", b"5,\xff\xff", b"6,7,8"]
    lines += [b"8,%d" % number for number in range(30)]

    rows = list(Table(write(tmp_path, b"\n".join(lines)), encoding="utf-8").rows())

    assert {row.line: row.problem for row in rows if row.problem} == {
        3: "1 cells where the header has 2",
        4: "quotes do not match (unexpected end of data)",
        6: "byte 3 of the row is not UTF-8",
        7: "3 cells where the header has 2",
    }
    assert len(rows) == len(lines) - 1


def test_an_overlong_line_is_one_problem(tmp_path: Path) -> None:
    content = b"a,b\n1," + b"x" * (ROW_BYTES_MAX * 3) + b"\n2,3\n"

    rows = list(Table(write(tmp_path, content)).rows())

    assert [(row.line, bool(row.problem)) for row in rows] == [(2, True), (3, False)]


def test_reading_begins_at_the_asked_line(tmp_path: Path) -> None:
    table = Table(write(tmp_path, b"a\n1\n2\n3\n"))

    assert [row.line for row in table.rows(from_line=3)] == [3, 4]


def test_a_big_file_needs_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n" + b"1234567,abcdefgh\n" * 60_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in Table(path).rows())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 60_000
    assert peak_bytes < 300_000


@given(rows=st.lists(st.lists(st.text(max_size=20), min_size=3, max_size=3), max_size=20))
def test_any_text_reads_without_an_error(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("any")
    content = "a,b,c\n" + "\n".join(",".join(cells) for cells in rows)
    path = write(directory, content.encode("utf-8", errors="replace"))

    for row in Table(path, encoding="utf-8").rows():
        assert row.problem or len(row.cells) == 3


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("gvw_kg", "gross_weight_kg", "kg"),
        ("毛重(t)", "gross_weight_kg", "t"),
        ("总重（吨）", "gross_weight_kg", "t"),
        ("车货总重（千克）", "gross_weight_kg", "kg"),
        ("Gross Weight", "gross_weight_kg", "kg"),
        ("皮重", "tare_weight_kg", "kg"),
        ("净重（吨*100）", "net_weight_kg", "t*100"),
        ("车牌号", "front_plate_number", ""),
        ("挂车号牌", "rear_plate_number", ""),
        ("过磅时间", "weigh_time", ""),
        ("轴数", "axle_count", ""),
        ("车长(m)", "length_mm", "m"),
        ("车速(km/h)", "speed_kmh", "km/h"),
        ("w3_kg", "axle_3_weight_kg", "kg"),
        ("轴重2(kg)", "axle_2_weight_kg", "kg"),
        ("第4轴重", "axle_4_weight_kg", "kg"),
        ("s2_3_mm", "axle_2_spacing_mm", "mm"),
        ("轴距1-2(mm)", "axle_1_spacing_mm", "mm"),
        ("货物名称", "goods", ""),
        ("axle_groups", None, ""),
        ("备注", None, ""),
        ("w99", None, ""),
    ],
)
def test_known_names_are_understood_with_their_unit(header: str, name: str | None, unit: str) -> None:
    target = guess(header)

    assert (target.field.name if target.field is not None else None) == name
    assert unit_shown(target) == unit
    assert target.field is not None or target.remark


def test_every_field_name_is_known_to_itself() -> None:
    assert [name for name, field in FIELDS.items() if guess(name).field is not field] == []


def test_wishes_go_before_names(tmp_path: Path) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns]\nb = "gross_weight_kg:t"\nc = { ignore = "old" }\n', encoding="utf-8")
    wishes = read_wishes([str(mapping), "a=record_id", "时间="])

    columns = map_columns(["a", "b", "c", "时间", "weigh_time", "毛重"], wishes)

    assert [column.target.field.name if column.target.field is not None else "" for column in columns] == [
        "record_id", "gross_weight_kg", "", "", "weigh_time", "",
    ]  # fmt: skip
    assert columns[1].target.unit == "t"
    assert columns[2].target.remark == "old"
    assert "another column" in columns[5].target.remark


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("a=weight", "there is no field weight"),
        ("a=gross_weight_kg:stone", "has no unit stone; accepted: kg, t"),
        ("nothing.toml", "neither column=field"),
    ],
)
def test_wrong_wishes_are_named(option: str, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        read_wishes([option])


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (["a", "a"], [], "occur twice: a"),
        (["record_no", "gvw"], [], "no column gives weigh_time"),
        (["record_no", "gvw", "time"], ["x=lane"], "the file has no column x"),
        (
            ["record_no", "gvw", "time", "w"],
            ["w=gross_weight_kg", "gvw=gross_weight_kg"],
            "would come from two columns",
        ),
    ],
)
def test_headers_that_cannot_be_mapped_are_refused(header: Sequence[str], options: list[str], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        map_columns(header, read_wishes(options))


def test_shipped_mappings_are_valid_and_recognised() -> None:
    for content in shipped_mappings().values():
        for target in content["columns"].values():
            if isinstance(target, str):
                assert isinstance(parse_target(target), Target)
        header = list(content["columns"])
        assert recognise(header, read_wishes([])).titles == [content["title"]]


def convert(
    header: list[str], cells: list[str], *options: str, zone: timezone = SHANGHAI
) -> tuple[record_pb2.WeighingRecord, list[str]]:
    full = ["record_id", "time", "gross", *header]
    converter = RecordConverter(map_columns(full, read_wishes(options)), constants={"scale_id": "C1"}, zone=zone)
    record, problems = converter.convert(["r1", "2026-11-16 09:28:13", "42000", *cells])
    return record, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-16T09:28:13.700", datetime(2026, 11, 16, 1, 28, 13, 700_000, tzinfo=UTC)),
        ("2026/1/6 9:08", datetime(2026, 1, 6, 1, 8, tzinfo=UTC)),
        ("2026年1月6日 9时08分05秒", datetime(2026, 1, 6, 1, 8, 5, tzinfo=UTC)),
        ("20260106090805", datetime(2026, 1, 6, 1, 8, 5, tzinfo=UTC)),
        ("2026-01-06 09:08:05Z", datetime(2026, 1, 6, 9, 8, 5, tzinfo=UTC)),
        ("2026-01-06T09:08:05+06:30", datetime(2026, 1, 6, 2, 38, 5, tzinfo=UTC)),
        ("2026-01-06 00:00:00.123456789", datetime(2026, 1, 5, 16, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    converter = RecordConverter(
        map_columns(["record_id", "time", "gross"], read_wishes([])), constants={}, zone=find_zone("Asia/Shanghai")
    )
    record, problems = converter.convert(["r1", text, "42000"])

    assert problems == []
    assert record.weigh_time.ToDatetime(tzinfo=UTC) == expected


def test_epochs_are_times_when_asked() -> None:
    header = ["record_id", "t", "gross"]
    converter = RecordConverter(
        map_columns(header, read_wishes(["t=weigh_time:epoch_ms"])), constants={}, zone=SHANGHAI
    )
    record, _ = converter.convert(["r1", "1793490893123", "42000"])

    assert record.weigh_time.ToMilliseconds() == 1793490893123


@pytest.mark.parametrize(
    ("header", "cell", "option", "expected"),
    [
        ("皮重(t)", "15.9", "", {"tareWeightKg": 15_900}),
        ("皮重", "1590", "皮重=tare_weight_kg:t*100", {"tareWeightKg": 15_900}),
        ("皮重", "15,900", "", {"tareWeightKg": 15_900}),
        ("皮重(t)", "15.0005", "", {"tareWeightKg": 15_000}),
        ("车长(m)", "17.25", "", {"vehicle": {"lengthMm": 17_250}}),
        ("车速", "10", "车速=speed_kmh:m/s", {"speedKmh": 36}),
        ("车牌颜色", "黄色", "", {"frontPlate": {"color": "PLATE_COLOR_YELLOW"}}),
        ("车牌颜色", "1", "车牌颜色=front_plate_color:toll",
         {"frontPlate": {"color": "PLATE_COLOR_YELLOW", "rawColorCode": "1"}}),
        ("车牌颜色", "1", "车牌颜色=front_plate_color:jt809",
         {"frontPlate": {"color": "PLATE_COLOR_BLUE", "rawColorCode": "1"}}),
        ("车牌颜色", "7", "", {"frontPlate": {"rawColorCode": "7"}}),
        ("车牌号", "-", "", {}),
        ("车型", "半挂汽车列车", "", {"vehicle": {"vehicleClass": "VEHICLE_CLASS_ARTICULATED"}}),
        ("过磅类型", "复磅", "", {"event": "WEIGHING_EVENT_REWEIGH"}),
    ],
)  # fmt: skip
def test_cells_become_values(header: str, cell: str, option: str, expected: dict[str, object]) -> None:
    record, problems = convert([header], [cell], *([option] if option else []))

    assert problems == []
    always = {
        "recordId": "r1", "scaleId": "C1", "weighTime": "2026-11-16T01:28:13Z", "grossWeightKg": 42_000,
        "event": "WEIGHING_EVENT_GROSS",
    }  # fmt: skip
    assert MessageToDict(record) == always | expected


@pytest.mark.parametrize(
    ("unit", "cell", "expected"),
    [
        ("toll", "0", "BLUE"),
        ("toll", "1", "YELLOW"),
        ("toll", "2", "BLACK"),
        ("toll", "3", "WHITE"),
        ("toll", "4", "GRADIENT_GREEN"),
        ("toll", "5", "YELLOW_GREEN"),
        ("toll", "9", "OTHER"),
        ("toll", "11", "GREEN"),
        ("toll", "6", "UNSPECIFIED"),
        ("jt809", "1", "BLUE"),
        ("jt809", "2", "YELLOW"),
        ("jt809", "3", "BLACK"),
        ("jt809", "4", "WHITE"),
        ("jt809", "5", "GREEN"),
        ("jt809", "9", "OTHER"),
        ("jt809", "0x93", "YELLOW_GREEN"),
        ("jt809", "147", "YELLOW_GREEN"),
        ("jt809", "0X94", "GRADIENT_GREEN"),
        ("jt809", "148", "GRADIENT_GREEN"),
        ("jt809", " 1 ", "BLUE"),
        ("jt809", "１", "BLUE"),
        ("jt809", "0", "UNSPECIFIED"),
        ("jt809", "yellow", "UNSPECIFIED"),
        ("jt809", "-1", "UNSPECIFIED"),
    ],
)
def test_color_codes(unit: str, cell: str, expected: str) -> None:
    record, problems = convert(["车牌颜色"], [cell], f"车牌颜色=front_plate_color:{unit}")

    assert problems == []
    plate = record.front_plate
    assert (record_pb2.PlateColor.Name(plate.color), plate.raw_color_code) == (f"PLATE_COLOR_{expected}", cell.strip())


def test_a_lifted_axle_is_kept_when_it_is_counted() -> None:
    record, _ = convert(["axles", "w1", "w2", "w3", "s1_2", "s2_3"], ["3", "7500", "8400", "0", "1399", "3799"])

    axles = [MessageToDict(axle) for axle in record.vehicle.axles]
    assert axles == [{"weightKg": 7_500, "spacingMm": 1_399}, {"weightKg": 8_400, "spacingMm": 3_799}, {"weightKg": 0}]


def test_axles_end_with_the_last_one_that_has_a_load() -> None:
    record, _ = convert(["w1", "w2", "w3", "w4", "s1_2", "s2_3", "s3_4"], ["7000", "10000", "0", "", "3500", "", "0"])

    axles = [MessageToDict(axle) for axle in record.vehicle.axles]
    assert axles == [{"weightKg": 7_000, "spacingMm": 3_500}, {"weightKg": 10_000}]


def test_every_problem_of_a_row_is_named_at_once() -> None:
    converter = RecordConverter(
        map_columns(["record_id", "time", "毛重", "车速", "类型"], read_wishes(["类型=event"])),
        constants={},
        zone=SHANGHAI,
    )
    _, problems = converter.convert(["", "yesterday", "1e99", "fast", "?"])

    assert [problem.column for problem in problems] == ["time", "毛重", "车速", "类型", "record_id"]


def test_words_that_nobody_knows_are_left_out_and_counted() -> None:
    columns = map_columns(["record_id", "time", "gross", "车型"], read_wishes([]))
    converter = RecordConverter(columns, constants={}, zone=SHANGHAI)
    for _ in range(2):
        record, problems = converter.convert(["r1", "2026-11-16 09:28", "42000", "飞机"])
        assert problems == []
        assert not record.vehicle.vehicle_class

    assert dict(converter.remarks) == {("车型", "'飞机'"): 2}


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone Mars/Base"):
        find_zone("Mars/Base")
