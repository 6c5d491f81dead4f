"""Which column of a file goes into which field, in which unit: from --map, from a mapping file, or from known names."""

import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from cli.importer.fields import (
    AXLE_NAMES,
    AXLES_MAX,
    FIELDS,
    FORMS,
    IGNORED_NAMES,
    KNOWN_NAMES,
    REQUIRED,
    UNIT_NAMES,
    Field,
    Kind,
)

# A mapping file is written by hand; a bigger one is some other file.
_MAPPING_BYTES_MAX = 1_048_576

_UNIT_IN_BRACKETS = re.compile(r"^(.*?)[(\[](.+?)[)\]]$")
_UNIT_AT_END = re.compile(r"^(.+)_(kg|t|mm|cm|m|kmh)$")


class MappingError(Exception):
    """A mapping cannot be used; the message names the column or field and the remedy."""


@dataclass(frozen=True)
class Target:
    """Where the cells of a column go; without a field they are ignored."""

    field: Field | None
    unit: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Column:
    """One column of the file."""

    index: int
    header: str
    target: Target


@dataclass
class Wishes:
    """What the caller says about columns; what it does not say is taken from known names if `is_automatic`."""

    targets: dict[str, Target] = field(default_factory=dict)
    is_automatic: bool = True
    # Title of the mapping file used, to be shown.
    titles: list[str] = field(default_factory=list)


def read_wishes(options: Iterable[str]) -> Wishes:
    """Read the values of --map: a TOML or JSON file, the name of a shipped mapping, or `column=field[:unit]`.

    Later ones win. Raises MappingError.
    """
    wishes = Wishes()
    for option in options:
        path = Path(option)
        if "=" in option and not path.is_file():
            column, _, target = option.rpartition("=")
            wishes.targets[column.strip()] = parse_target(target)
        elif option in shipped_mappings():
            _add(wishes, shipped_mappings()[option], option)
        elif path.is_file():
            _add(wishes, _read_file(path), path.name)
        else:
            shipped = ", ".join(shipped_mappings())
            raise MappingError(
                f"--map {option}: neither column=field, nor a file, nor a shipped mapping ({shipped})"
                " --map 既不是 列=字段, 也不是文件或内置映射"
            )
    return wishes


def parse_target(text: str) -> Target:
    """Read `field[:unit]`; empty means that the column is ignored. Raises MappingError."""
    name, _, unit = text.strip().partition(":")
    if not name:
        return Target(None, remark="as asked 按要求忽略")
    known = FIELDS.get(name)
    if known is None:
        raise MappingError(f"there is no field {name}; fields are {', '.join(FIELDS)} 没有该字段")
    unit = UNIT_NAMES.get(unit, unit)
    if unit and unit not in known.units:
        accepted = ", ".join(known.units) or "none"
        raise MappingError(f"{name} has no unit {unit}; accepted: {accepted} 该字段不支持此单位")
    return Target(known, unit or next(iter(known.units), ""))


def shipped_mappings() -> dict[str, dict[str, Any]]:
    """Return the mappings that come with the product, by name."""
    directory = files("cli.importer").joinpath("mappings")
    return {
        entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text(encoding="utf-8"))
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def map_columns(header: Sequence[str], wishes: Wishes, *, constants: Iterable[str] = ()) -> list[Column]:
    """Decide for every column of the header. `constants` are fields that do not need a column.

    Raises MappingError for a column named that the file has not, a column name twice, a field from two columns, and a
    required field from none.
    """
    _check_header(header)
    unknown = [name for name in wishes.targets if name not in header]
    if unknown:
        raise MappingError(f"the file has no column {', '.join(unknown)}; it has {', '.join(header)} 文件中没有该列")
    targets = [wishes.targets.get(name) for name in header]
    taken = {target.field.name for target in targets if target is not None and target.field is not None}
    columns = []
    for index, (name, wished) in enumerate(zip(header, targets, strict=True)):
        target = wished
        if target is None:
            target = guess(name) if wishes.is_automatic else Target(None, remark="not in the mapping 未映射")
            if target.field is not None and target.field.name in taken:
                target = Target(None, remark=f"{target.field.name} comes from another column 字段已有来源")
        if target.field is not None:
            taken.add(target.field.name)
        columns.append(Column(index, name, target))
    _check_columns(columns, set(constants))
    return columns


def guess(header: str) -> Target:
    """Map one column by its name; without a field when the name is not known."""
    name = re.sub(r"[\s]+", "_", unicodedata.normalize("NFKC", header).strip().lower())
    if name in FIELDS:
        return Target(FIELDS[name], next(iter(FIELDS[name].units), ""))
    unit = ""
    for pattern in (_UNIT_IN_BRACKETS, _UNIT_AT_END):
        match = pattern.match(name)
        if match is not None:
            name, unit = match[1].strip("_"), match[2].strip("_")
            break
    if name in IGNORED_NAMES:
        return Target(None, remark=IGNORED_NAMES[name])
    found = FIELDS.get(KNOWN_NAMES.get(name, "")) or _guess_axle(name)
    if found is None:
        return Target(None, remark="name not known 名称未识别")
    unit = UNIT_NAMES.get(unit, unit)
    if unit in found.units:
        return Target(found, unit)
    remark = "" if not found.units or found.kind in FORMS else "unit assumed 单位为默认"
    return Target(found, next(iter(found.units), ""), remark)


def _guess_axle(name: str) -> Field | None:
    for pattern, what in AXLE_NAMES:
        match = pattern.fullmatch(name)
        if match is not None:
            axle = int(next(group for group in match.groups() if group is not None))
            if 1 <= axle <= AXLES_MAX:
                return FIELDS[f"axle_{axle}_{what}"]
    return None


def recognise(header: Sequence[str], wishes: Wishes) -> Wishes:
    """Take a shipped mapping if the file has all of its columns and the caller named no other."""
    if wishes.titles:
        return wishes
    for name, content in shipped_mappings().items():
        if set(content["columns"]) <= set(header):
            merged = Wishes()
            _add(merged, content, name)
            merged.targets |= wishes.targets
            return merged
    return wishes


def _read_file(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAPPING_BYTES_MAX:
        raise MappingError(f"{path.name} is larger than {_MAPPING_BYTES_MAX:,} bytes 映射文件过大")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, OSError) as error:
        raise MappingError(f"{path.name} cannot be read: {error} 无法读取映射文件") from error
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
        raise MappingError(f"{path.name} has no table `columns` 映射文件缺少 columns 表")
    return content


def _add(wishes: Wishes, content: Mapping[str, Any], name: str) -> None:
    wishes.titles.append(str(content.get("title", name)))
    wishes.is_automatic = bool(content.get("automatic", True))
    for column, target in content["columns"].items():
        if isinstance(target, str):
            wishes.targets[column] = parse_target(target)
        elif isinstance(target, dict) and isinstance(target.get("ignore"), str):
            wishes.targets[column] = Target(None, remark=target["ignore"])
        else:
            raise MappingError(f'{name}: column {column} needs "field:unit" or {{ ignore = "why" }} 该列的映射写法有误')


def _check_header(header: Sequence[str]) -> None:
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise MappingError(f"column names occur twice: {', '.join(doubled)} 列名重复")


def _check_columns(columns: Sequence[Column], constants: set[str]) -> None:
    by_field: dict[str, str] = {}
    for column in columns:
        if column.target.field is None:
            continue
        name = column.target.field.name
        if name in by_field:
            raise MappingError(
                f"{name} would come from two columns: {by_field[name]} and {column.header} 同一字段对应了两列"
            )
        by_field[name] = column.header
    missing = [name for name in REQUIRED if name not in by_field and name not in constants]
    if missing:
        raise MappingError(
            f"no column gives {', '.join(missing)}; name it with --map COLUMN={missing[0]}. "
            f"The columns are {', '.join(column.header for column in columns)}"
            " 缺少所需字段, 请用 --map 指定对应的列"
        )


def unit_shown(target: Target) -> str:
    """Return the unit as shown to people; empty where a unit would say nothing."""
    if target.field is None or (target.field.kind in (Kind.TIME, Kind.PLATE_COLOR) and target.unit == "text"):
        return ""
    return target.unit
