"""The lock of the database by which one replica at a time does what must not, or need not, be done twice."""

from sqlalchemy.engine import Connection

from services.common.database import translate_errors
from services.common.database.engine import create_single_engine


class OnlyOne:
    """A lock that one replica holds as long as its connection lives. For one thread."""

    def __init__(self, database_url: str, key: int, name: str) -> None:
        self._engine = create_single_engine(database_url, application_name=f"zhichao-video-{name}")
        self._key = key
        self._connection: Connection | None = None

    def is_held(self) -> bool:
        """Tell whether this replica has the lock, taking it if nobody has it.

        Raises ServiceError DATABASE_UNAVAILABLE; the lock is not held then.
        """
        with translate_errors():
            try:
                return self._take() if self._connection is None else self._ask(self._connection)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Let go of the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._key})").scalar_one():
            return True
        self.release()
        return False

    @staticmethod
    def _ask(connection: Connection) -> bool:
        # The lock is the connection's: as long as it answers, nobody else has it.
        return bool(connection.exec_driver_sql("SELECT true").scalar_one())
