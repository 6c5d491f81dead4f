"""Lists that services give page by page: fetched, and shown as a table or as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table


def every(method: Callable[..., Any], request: Any, items: str, call_seconds_max: float) -> Iterator[Any]:
    """Yield the items of a whole list, in pages as large as the request has them.

    A page is asked for when the one before is used up.
    """
    while True:
        answer = method(request, timeout=call_seconds_max)
        yield from getattr(answer, items)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def first(
    method: Callable[..., Any], request: Any, items: str, limit: int, call_seconds_max: float
) -> tuple[list[Any], bool]:
    """Return the first items of a list, at most `limit`, and whether there are more.

    Pages are as large as the request has them, and no more is asked for than is returned: services keep account of how
    much a person has read.
    """
    page_size = request.page_size
    found: list[Any] = []
    while True:
        request.page_size = min(limit - len(found), page_size)
        answer = method(request, timeout=call_seconds_max)
        found += getattr(answer, items)
        request.page_token = answer.next_page_token
        if not answer.next_page_token or len(found) >= limit:
            return found, bool(answer.next_page_token)


def show_list(
    name: str,
    found: Sequence[Any],
    as_document: Callable[[Any], dict[str, Any]],
    table: "Table",
    none_found: str,
    *,
    limit: int,
    has_more: bool,
    as_json: bool,
) -> None:
    """Print what was found as its table, or `none_found`; as JSON a list under `name`, with whether there is more."""
    from cli.terminal import Console

    if as_json:
        document = {name: [as_document(one) for one in found], "has_more": has_more}
        click.echo(json.dumps(document, ensure_ascii=False))
    elif not found:
        click.echo(none_found)
    else:
        Console().print(table)
        if has_more:
            click.echo(more_than(limit))


def more_than(limit: int) -> str:
    """Return what is said when there is more than was asked for."""
    return f"more than {limit:,}: raise --limit 另有更多"
