"""The psycopg connection under a pooled one, for COPY and other statements that SQLAlchemy has no form for."""

from typing import Any

import psycopg
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

RawConnection = psycopg.Connection[Any]

__all__ = ["Connection", "Engine", "RawConnection", "raw_connection"]


def raw_connection(connection: Connection) -> RawConnection:
    """Return the driver's connection; what it does is part of the pooled connection's transaction."""
    return driver_connection(connection.connection)


def driver_connection(pooled: PoolProxiedConnection) -> RawConnection:
    """Return the driver's connection of what a pool has given."""
    raw = pooled.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise TypeError(f"the driver is {type(raw).__name__}, not psycopg")
    return raw
