"""PostgreSQL for one service: the engine and its pool, database failures as refusals, and the schema's migrations."""

from services.common.database.engine import PoolUsage, create_engine, pool_usage, reading, wait_until_reachable
from services.common.database.failures import translate_errors
from services.common.database.grants import APPEND_ONLY, READ_VERSION, grant, missing
from services.common.database.kept import KeptConnection
from services.common.database.raw import Connection, Engine, RawConnection, raw_connection
from services.common.database.schema import SchemaError, check, differences, upgrade

__all__ = [
    "APPEND_ONLY",
    "READ_VERSION",
    "Connection",
    "Engine",
    "KeptConnection",
    "PoolUsage",
    "RawConnection",
    "SchemaError",
    "check",
    "create_engine",
    "differences",
    "grant",
    "missing",
    "pool_usage",
    "raw_connection",
    "reading",
    "translate_errors",
    "upgrade",
    "wait_until_reachable",
]
