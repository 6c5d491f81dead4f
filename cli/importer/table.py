"""Lines of a CSV file in constant memory: encoding and separator found out, damaged lines reported and passed over."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# A row of a weighing file is a few hundred characters; a longer one is a quote that was never closed.
ROW_BYTES_MAX = 65_536
# Line breaks within quotes are rare (a remark, an address); more lines are a quote that was never closed.
ROW_LINES_MAX = 20
COLUMNS_MAX = 500
# Enough lines with Chinese in them to tell the encodings apart, also in a file with damaged lines.
_SAMPLED_BYTES_MAX = 64 * 1024 * 1024
_SEPARATORS = ",;\t|"


class TableError(Exception):
    """The file cannot be read as a table at all."""


@dataclass(frozen=True)
class Row:
    """One row: its first line in the file from 1, and either its cells or what is wrong with it."""

    line: int
    cells: list[str]
    problem: str = ""


def detect_encoding(path: Path) -> str:
    """Tell UTF-8 from GB18030 by the lines that are not plain ASCII; raises TableError for UTF-16."""
    valid = invalid = read = 0
    with path.open("rb") as file:
        first = file.readline(ROW_BYTES_MAX)
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise TableError(
                "the file is in UTF-16; save it as UTF-8 or GB18030 文件为 UTF-16 编码, 请另存为 UTF-8 或 GB18030"
            )
        if first.startswith(codecs.BOM_UTF8):
            return "utf-8"
        line = first
        while line and read < _SAMPLED_BYTES_MAX:
            read += len(line)
            if not line.isascii():
                is_valid = _decodes(line)
                valid += is_valid
                invalid += not is_valid
            line = file.readline(ROW_BYTES_MAX)
    # Text in GB18030 is hardly ever valid UTF-8, so a few bad lines among good ones are damage.
    return "utf-8" if valid >= invalid else "gb18030"


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class Table:
    """A CSV file with a header. Iterate once over `rows`; `position` tells how many bytes are read."""

    def __init__(self, path: Path, *, encoding: str | None = None) -> None:
        self._path = path
        self.encoding = encoding or detect_encoding(path)
        self.size_bytes = path.stat().st_size
        self.position = 0
        self._next_line = 1
        with path.open("rb") as file:
            text = file.readline(ROW_BYTES_MAX).decode(self.encoding, errors="replace").removeprefix("\ufeff")
        counts = {separator: text.count(separator) for separator in _SEPARATORS}
        self.separator = max(counts, key=lambda separator: counts[separator])
        self._rows = self._read()
        first = next(self._rows, None)
        if first is None:
            raise TableError("the file is empty 文件为空")
        if first.problem:
            raise TableError(f"the header cannot be read: {first.problem} 无法读取表头")
        self.header = [cell.strip() for cell in first.cells]
        if len(self.header) > COLUMNS_MAX:
            raise TableError(f"the header has {len(self.header)} columns; at most {COLUMNS_MAX} are read 列数过多")

    def rows(self, *, from_line: int = 1) -> Iterator[Row]:
        """Yield the rows after the header that start at `from_line` or later; blank lines are passed over."""
        for row in self._rows:
            if row.line < from_line:
                continue
            if not row.problem and len(row.cells) != len(self.header):
                problem = f"{len(row.cells)} cells where the header has {len(self.header)}"
                yield Row(row.line, row.cells, problem)
            else:
                yield row

    def _read(self) -> Iterator[Row]:
        with self._path.open("rb") as file:
            while True:
                number = self._next_line
                start = file.tell()
                parts = [self._read_line(file)]
                if not parts[0]:
                    return
                # An odd number of quotes: the row goes on in the next line.
                while sum(part.count(b'"') for part in parts) % 2 and len(parts) < ROW_LINES_MAX:
                    following = self._read_line(file)
                    if not following:
                        break
                    parts.append(following)
                raw = b"".join(parts)
                if raw.count(b'"') % 2 and len(parts) > 1:
                    # Never closed: only the first line is lost, the others are read again as rows of their own.
                    file.seek(start)
                    self._next_line = number
                    raw = self._read_line(file)
                self.position = file.tell()
                row = self._parse(number, raw)
                if row is not None:
                    yield row

    def _read_line(self, file: BinaryIO) -> bytes:
        """Read one line and count it; of an overlong one, the first ROW_BYTES_MAX bytes and one more."""
        line = file.readline(ROW_BYTES_MAX + 1)
        if line:
            self._next_line += 1
        rest = line
        while len(rest) > ROW_BYTES_MAX and not rest.endswith(b"\n"):
            rest = file.readline(ROW_BYTES_MAX + 1)
        return line

    def _parse(self, number: int, raw: bytes) -> Row | None:
        if len(raw) > ROW_BYTES_MAX:
            return Row(number, [], f"the row is longer than {ROW_BYTES_MAX:,} bytes")
        try:
            text = raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            shown = raw.decode(self.encoding, errors="replace").strip()
            return Row(number, [shown], f"byte {error.start + 1} of the row is not {self.encoding.upper()}")
        if number == 1:
            text = text.removeprefix("\ufeff")
        if not text.strip("\r\n\t ,;|"):
            return None
        try:
            cells = next(csv.reader([text], delimiter=self.separator, strict=True))
        except (csv.Error, StopIteration) as error:
            return Row(number, [text.strip()], f"quotes do not match ({error})")
        return Row(number, cells)
