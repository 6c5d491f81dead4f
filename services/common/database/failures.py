"""Database failures that are nobody's fault in the program, as the refusal DATABASE_UNAVAILABLE. All others pass: they
are faults, and the RPC edge answers INTERNAL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
import structlog
from sqlalchemy import exc

from services.common.errors import ServiceError
from services.common.reasons import Reason

log = structlog.get_logger()

# A restart or a failover takes seconds; a conflict between transactions is over at once.
RETRY_AFTER_OUTAGE_SECONDS = 2.0
RETRY_AFTER_CONFLICT_SECONDS = 0.1
RETRY_AFTER_FULL_SECONDS = 30.0

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A): what to tell the caller in English and Chinese, and
# how long to wait. The longest prefix decides.
_FAILURES: dict[str, tuple[str, str, float]] = {
    "08": ("the database connection broke", "数据库连接中断", RETRY_AFTER_OUTAGE_SECONDS),
    "53": ("the database is out of resources", "数据库资源不足", RETRY_AFTER_OUTAGE_SECONDS),
    "53100": ("the database's disk is full", "数据库磁盘已满", RETRY_AFTER_FULL_SECONDS),
    "57P": ("the database server is stopping or starting", "数据库正在停止或启动", RETRY_AFTER_OUTAGE_SECONDS),
    "57014": ("the database took too long", "数据库响应超时", RETRY_AFTER_OUTAGE_SECONDS),
    "58": ("the database server has a system error", "数据库服务器系统错误", RETRY_AFTER_FULL_SECONDS),
    "40001": ("another transaction came first", "与其他事务冲突", RETRY_AFTER_CONFLICT_SECONDS),
    "40P01": ("another transaction came first", "与其他事务冲突", RETRY_AFTER_CONFLICT_SECONDS),
    "55P03": ("another transaction holds a lock for too long", "数据被其他事务锁定", RETRY_AFTER_OUTAGE_SECONDS),
    "25006": ("the database takes no writes, as during a failover", "数据库当前只读", RETRY_AFTER_OUTAGE_SECONDS),
    "25P03": ("the transaction idled for too long", "事务空闲超时", RETRY_AFTER_OUTAGE_SECONDS),
    "25P04": ("the transaction took too long", "事务超时", RETRY_AFTER_OUTAGE_SECONDS),
}
_UNREACHABLE = ("the database cannot be reached", "无法连接数据库", RETRY_AFTER_OUTAGE_SECONDS)
_POOL_EMPTY = ("all database connections are busy", "数据库连接已全部占用", RETRY_AFTER_OUTAGE_SECONDS)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn failures of the database into ServiceError(DATABASE_UNAVAILABLE) with a time to wait.

    Goes around the whole transaction, since a commit fails too. What the statement was is neither sent nor logged.
    """
    try:
        yield
    except (exc.DBAPIError, psycopg.Error, exc.TimeoutError) as error:
        _translate(error)


def _translate(error: exc.DBAPIError | psycopg.Error | exc.TimeoutError) -> NoReturn:
    failure = _failure(error)
    if failure is None:
        raise error
    message, message_zh, retry_after_seconds = failure
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    sqlstate = origin.sqlstate if isinstance(origin, psycopg.Error) else None
    log.warning("database_failed", sqlstate=sqlstate, error=type(origin).__name__, detail=_detail(origin))
    raise ServiceError(
        Reason.DATABASE_UNAVAILABLE,
        f"{message}: nothing was recorded, try again",
        message_zh=f"{message_zh}，未记录任何数据，请稍后重试",
        retry_after_seconds=retry_after_seconds,
    ) from error


def _failure(error: exc.DBAPIError | psycopg.Error | exc.TimeoutError) -> tuple[str, str, float] | None:
    if isinstance(error, exc.TimeoutError):
        return _POOL_EMPTY
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    if not isinstance(origin, psycopg.Error):
        return None
    state = origin.sqlstate
    if state is None:
        # libpq itself failed: no server, no route, a connection that closed under us.
        return _UNREACHABLE if isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError) else None
    for length in (5, 3, 2):
        if (failure := _FAILURES.get(state[:length])) is not None:
            return failure
    return None


def _detail(origin: BaseException | None) -> str:
    """Say for the log what happened: the server's one-line message, or the driver's, never the statement."""
    if isinstance(origin, psycopg.Error) and origin.diag.message_primary:
        return origin.diag.message_primary
    return str(origin).partition("\n")[0][:500]
