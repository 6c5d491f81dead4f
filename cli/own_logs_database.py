"""Whether the databases of a platform hold logs that it has begun, which are signed with a key."""

from collections.abc import Iterable
from typing import Final

import psycopg

_HAS_LOGS: Final = "SELECT to_regclass('journal_logs') IS NOT NULL"
_BEGUN: Final = "SELECT EXISTS (SELECT FROM journal_logs WHERE is_own)"


def any_begun(database_urls: Iterable[str]) -> bool:
    """Say whether any of the databases holds a log of the platform's own.

    Raises psycopg.Error when one cannot be asked.
    """
    for url in database_urls:
        with psycopg.connect(url) as connection:
            if all(connection.execute(question).fetchone() == (True,) for question in (_HAS_LOGS, _BEGUN)):
                return True
    return False
