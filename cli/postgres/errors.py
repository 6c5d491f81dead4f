"""Why an embedded PostgreSQL server cannot run, in words meant for the person who started it."""


class PostgresError(Exception):
    """Base of every refusal below; the text says what is wrong and what to do."""


class BinariesUnusableError(PostgresError):
    """No PostgreSQL programs were found, or they cannot be run here."""


class AccountUnusableError(PostgresError):
    """No operating system account is fit to own the server process."""


class DirectoryUnusableError(PostgresError):
    """The data directory cannot be created, written or read, or belongs to something else."""


class DirectoryInUseError(PostgresError):
    """Another process runs a server on the data directory."""


class VersionMismatchError(PostgresError):
    """The data directory was made by another major version of PostgreSQL."""


class StartFailedError(PostgresError):
    """The server or initdb ran and gave up; the text carries the end of its log."""
