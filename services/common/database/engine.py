"""The connection pool of a service: durable commits, bounded waits, dead connections replaced unnoticed."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

# One county's database is on the same machine or network; a connection takes milliseconds or does not come at all.
CONNECT_TIMEOUT_SECONDS = 5
# The largest batch (1,000 records) takes 0.1 s; what runs some hundred times longer waits for something broken.
STATEMENT_TIMEOUT_SECONDS = 30.0
# Readers hold a snapshot, which holds back vacuum; a list page takes milliseconds.
READ_TIMEOUT_SECONDS = 10.0
# A transaction that idles this long belongs to a process that hangs; its locks are in everybody's way.
IDLE_IN_TRANSACTION_TIMEOUT_SECONDS = 60.0
# How long a call waits for a connection of the pool before it is refused as DATABASE_UNAVAILABLE.
POOL_TIMEOUT_SECONDS = 5.0
# A database host that vanished without a word is noticed after this, instead of after TCP's quarter of an hour.
TCP_USER_TIMEOUT_SECONDS = 15
# PostgreSQL cuts longer names.
APPLICATION_NAME_CHARACTERS_MAX = 63
# Between tries to reach a database that starts.
REACH_INTERVAL_SECONDS = 0.2


class PoolUsage(NamedTuple):
    """How busy a pool is now: connections that somebody holds, and how many there may be."""

    in_use: int
    size: int


def driver_url(url: str) -> URL:
    """Read a PostgreSQL URL and name our driver in it. Raises ValueError, without the URL: it may hold a password."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise ValueError("the database URL cannot be read; it must look like postgresql://user@host/database") from None
    if parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(f"the database URL begins with {parsed.drivername}://, but must begin with postgresql://")
    return parsed.set(drivername="postgresql+psycopg")


def create_engine(
    url: str,
    *,
    pool_size: int,
    application_name: str,
    statement_timeout_seconds: float | None = STATEMENT_TIMEOUT_SECONDS,
) -> Engine:
    """Make the engine of a service; it connects when it is first used.

    `pool_size` connections at most, all kept open. Commits are synchronous whatever the server's default is: a reply
    means stored. `statement_timeout_seconds` bounds every statement; None for none.
    """
    engine = sqlalchemy.create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        # The connection used last is the warmest, and a pool that is seldom busy lets the others rest.
        pool_use_lifo=True,
        # One round trip for every transaction; _check_connection below finds dead connections without any.
        pool_pre_ping=False,
        connect_args=connect_arguments(url, application_name, statement_timeout_seconds),
        # Statements and values stay out of exception texts.
        hide_parameters=True,
    )
    event.listen(engine, "checkout", _check_connection)
    return engine


def pool_usage(engine: Engine) -> PoolUsage:
    """Return how busy the pool of a service's engine is; nothing is asked of the database."""
    pool = engine.pool
    return PoolUsage(pool.checkedout(), pool.size()) if isinstance(pool, QueuePool) else PoolUsage(0, 0)


def create_single_engine(url: str, *, application_name: str) -> Engine:
    """Make an engine without a pool and without a statement timeout, for migrations and checks."""
    return sqlalchemy.create_engine(
        driver_url(url),
        poolclass=NullPool,
        connect_args=connect_arguments(url, application_name, None),
        hide_parameters=True,
    )


def connect_arguments(url: str, application_name: str, statement_timeout_seconds: float | None) -> dict[str, Any]:
    """Make the libpq parameters of a connection. `options` of the URL come last and win."""
    settings = {
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_SECONDS * 1000:.0f}",
        "statement_timeout": f"{(statement_timeout_seconds or 0.0) * 1000:.0f}",
        # Instants are compared and printed as they are stored.
        "TimeZone": "UTC",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    of_url = driver_url(url).query.get("options", "")
    return {
        "application_name": application_name[:APPLICATION_NAME_CHARACTERS_MAX],
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "options": f"{options} {of_url if isinstance(of_url, str) else ' '.join(of_url)}".strip(),
        "keepalives_idle": TCP_USER_TIMEOUT_SECONDS,
        "keepalives_interval": TCP_USER_TIMEOUT_SECONDS // 3,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_USER_TIMEOUT_SECONDS * 1000,
    }


@contextmanager
def reading(engine: Engine, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> Iterator[Connection]:
    """Open a read-only transaction in which all statements see one snapshot; each is cut off after the timeout."""
    with engine.begin() as connection:
        # One round trip for both.
        connection.exec_driver_sql(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; "
            f"SET LOCAL statement_timeout = {int(timeout_seconds * 1000)}"
        )
        yield connection


def wait_until_reachable(url: str, *, timeout_seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> bool:
    """Wait until the database answers; services and their databases start in any order.

    False when the time is over or `is_wanted()` turns false.
    """
    ends_at = time.monotonic() + timeout_seconds
    engine = create_single_engine(url, application_name="zhichao-start")
    while is_wanted():
        try:
            with engine.connect():
                return True
        except exc.OperationalError:
            if time.monotonic() >= ends_at:
                return False
            time.sleep(min(REACH_INTERVAL_SECONDS, max(ends_at - time.monotonic(), 0.0)))
    return False


def _check_connection(connection: psycopg.Connection[Any], _entry: ConnectionPoolEntry, _proxy: object) -> None:
    """Replace a pooled connection whose server is gone, and with it all that were opened before.

    An idle connection has nothing to read unless the server said something or hung up. Asking the kernel costs two
    microseconds, asking the server fifty; so only a connection with something to read is asked.
    """
    if not is_alive(connection):
        raise exc.InvalidatePoolError("the database server has closed this connection")


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server of an idle connection has not hung up, asking it only if it has said something."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if not poll.poll(0):
        return True
    # An empty query: it begins no transaction, and a NOTIFY that waits is kept for whoever listens.
    return connection.pgconn.exec_(b"").status == psycopg.pq.ExecStatus.EMPTY_QUERY
