"""Reads documents: whether a PDF is whole, can be opened without a password, and how many pages it has."""

import importlib
import logging
import re
from typing import Any, BinaryIO, Final

import pypdf

from services.video.media_types import ContentRefused, MediaFacts

DOCUMENT_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest document: some hundred scanned pages in colour."""

PAGES_MAX: Final = 100_000
"""Most pages: more is a mistake, or meant to harm whoever opens it."""

_HEADER: Final = re.compile(rb"%PDF-[12]\.[0-9]")
_HEADER_BYTES: Final = 8

_END_BYTES: Final = 1024
"""Within so many bytes of the end the trailer has to stand, as readers look for it (ISO 32000-1, annex H.3)."""

_END: Final = re.compile(rb"startxref\s+([0-9]{1,12})\s+%%EOF[\s\x00]*\Z")


def load_libraries() -> None:
    """Load the reader, with what it needs for encrypted documents."""
    for module in ("pypdf", "pypdf._encryption", "pypdf.filters"):
        importlib.import_module(module)
    # It would print what it thinks of broken files.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def inspect(file: BinaryIO, size: int) -> MediaFacts:
    """Read a PDF document. Raises ContentRefused."""
    if size > DOCUMENT_BYTES_MAX:
        raise ContentRefused(
            f"The document has {size} bytes; at most {DOCUMENT_BYTES_MAX} are taken",
            f"文档有 {size} 字节，最多接收 {DOCUMENT_BYTES_MAX} 字节",
        )
    if not _HEADER.fullmatch(file.read(_HEADER_BYTES)):
        raise _unreadable()
    file.seek(max(size - _END_BYTES, 0))
    end = _END.search(file.read(_END_BYTES))
    if end is None:
        raise ContentRefused(
            "The document is cut off, or more stands behind its end", "文档不完整，或结尾之后还有其他数据"
        )
    if int(end[1]) >= size:
        raise _unreadable()
    try:
        return MediaFacts(page_count=_pages(file))
    except (ContentRefused, MemoryError):
        raise
    except Exception as error:
        # What a reader raises for broken bytes is nowhere written down.
        raise _unreadable() from error


def _pages(file: BinaryIO) -> int:
    file.seek(0)
    reader = pypdf.PdfReader(file)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ContentRefused("The document cannot be opened without a password", "文档需要密码才能打开")
    tree = reader.root_object["/Pages"]
    count = int(tree["/Count"])  # type: ignore[index]  # a dictionary, or it raises
    if not 0 < count <= PAGES_MAX:
        raise _unreadable()
    # One page that is there proves the tables by which all are found.
    _check_first_page(tree)
    return count


def _check_first_page(node: Any) -> None:
    for _ in range(100):
        node = node.get_object()
        if "/Kids" not in node:
            break
        node = node["/Kids"][0]
    if node.get("/Type") != "/Page":
        raise _unreadable()


def _unreadable() -> ContentRefused:
    return ContentRefused("The document cannot be read: its bytes are damaged", "文档无法读取：数据已损坏")
