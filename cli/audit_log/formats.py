"""The two forms of a file: JSON Lines for programs, CSV for spreadsheets. One record is one row; what was written is
read back as it was.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from cli.audit_log.record import COLUMNS

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Without it spreadsheet programs take UTF-8 for the machine's own encoding, and Chinese is unreadable."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""Spreadsheet programs compute a cell that begins so; somebody who calls chooses what stands in some (OWASP, CSV
Injection)."""

_ESCAPE: Final = "'"

Row = Mapping[str, Any]


class UnreadableFileError(Exception):
    """A file that is none of its form; the text says where."""


class Format(Protocol):
    """One form."""

    @property
    def name(self) -> str:
        """Name in manifests and at the command line."""
        ...

    def header(self) -> bytes:
        """Return what stands before the first row."""
        ...

    def row(self, fields: Row) -> Row:
        """Return the columns of a record as they are read back."""
        ...

    def line(self, row: Row) -> bytes:
        """Return a row as it is written."""
        ...

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the rows of a file. Raises UnreadableFileError, OSError."""
        ...


class JsonLines:
    """A JSON object a line."""

    name = "jsonl"

    def header(self) -> bytes:
        """Return nothing."""
        return b""

    def row(self, fields: Row) -> Row:
        """Return the columns as they are."""
        return fields

    def line(self, row: Row) -> bytes:
        """Return one object and an end of line."""
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the objects. Raises UnreadableFileError, OSError."""
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UnreadableFileError(f"line {number} is no JSON 该行不是 JSON") from error
                if not isinstance(row, dict):
                    raise UnreadableFileError(f"line {number} is no JSON object 该行不是 JSON 对象")
                yield row


class Csv:
    """A table in UTF-8 with a byte order mark, titles in Chinese and English, and nothing that is computed."""

    name = "csv"

    def header(self) -> bytes:
        """Return mark and titles."""
        return BYTE_ORDER_MARK + _csv_line([f"{title} {name}" for name, title in COLUMNS.items()])

    def row(self, fields: Row) -> Row:
        """Return the columns as the texts of cells."""
        return {name: _cell(fields[name]) for name in COLUMNS}

    def line(self, row: Row) -> bytes:
        """Return one line; fields may stand in quotation marks (RFC 4180)."""
        return _csv_line([row[name] for name in COLUMNS])

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the rows. Raises UnreadableFileError, OSError."""
        with path.open("r", encoding="utf-8", newline="") as file:
            try:
                rows = csv.reader(file, strict=True)
                titles = next(rows, [])
                if titles != _titles():
                    raise UnreadableFileError(
                        "line 1 does not hold the titles of an audit log 首行不是审计日志的标题行"
                    )
                for cells in rows:
                    if len(cells) != len(COLUMNS):
                        raise UnreadableFileError(
                            f"line {rows.line_num} has {len(cells)} cells, not {len(COLUMNS)} 该行列数不符"
                        )
                    yield dict(zip(COLUMNS, cells, strict=True))
            except (csv.Error, UnicodeDecodeError) as error:
                raise UnreadableFileError(f"it is no CSV in UTF-8: {error} 不是 UTF-8 编码的 CSV 文件") from error


FORMATS: Final[Mapping[str, Format]] = {one.name: one for one in (JsonLines(), Csv())}


def _titles() -> list[str]:
    titles = [f"{title} {name}" for name, title in COLUMNS.items()]
    return [BYTE_ORDER_MARK.decode() + titles[0], *titles[1:]]


def _csv_line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    text = "; ".join(value) if isinstance(value, list) else str(value)
    return _ESCAPE + text if text.startswith(_FORMULA) else text
