"""PostgreSQL for a platform that brings its own: one private server per data directory, run as a supervised child.

Owns the server's files, account, socket and life; knows no table and no service. Production platforms that have a
database server give its URL and never come here.
"""

from cli.postgres.errors import (
    AccountUnusableError,
    BinariesUnusableError,
    DirectoryInUseError,
    DirectoryUnusableError,
    PostgresError,
    StartFailedError,
    VersionMismatchError,
)
from cli.postgres.server import EmbeddedPostgres

__all__ = [
    "AccountUnusableError",
    "BinariesUnusableError",
    "DirectoryInUseError",
    "DirectoryUnusableError",
    "EmbeddedPostgres",
    "PostgresError",
    "StartFailedError",
    "VersionMismatchError",
]
