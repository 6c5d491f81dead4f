"""Whether the databases of a platform hold logs that it has begun, which are signed with a key."""

from collections.abc import Iterable
from typing import Final

import psycopg

_HAS_LOGS: Final = "SELECT to_regclass('journal_logs') IS NOT NULL"
_BEGUN: Final = "SELECT EXISTS (SELECT FROM journal_logs WHERE is_own)"


class OwnLogsError(Exception):
    """A database cannot be asked; the text says why."""


def any_begun(database_urls: Iterable[str]) -> bool:
    """Say whether any of the databases holds a log of the platform's own.

    Raises OwnLogsError when one cannot be asked.
    """
    try:
        return any(_has_begun(url) for url in database_urls)
    except psycopg.Error as error:
        raise OwnLogsError(f"the databases cannot be asked: {error} 无法查询数据库") from error


def _has_begun(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return all(connection.execute(question).fetchone() == (True,) for question in (_HAS_LOGS, _BEGUN))
