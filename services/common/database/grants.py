"""Rights of the role that a service runs with, when another role owns the tables: rows may be written, tables not
changed, and what is evidence can only be added.
"""

from importlib import import_module
from typing import Any, Final

import sqlalchemy
import structlog
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from services.common.database.engine import create_single_engine
from services.common.database.schema import VERSION_TABLE, SchemaError

log = structlog.get_logger()

APPEND_ONLY: Final[dict[str, Any]] = {"is_append_only": True}
"""`info` of a table whose rows are never changed or removed: the role that services run with can only add to it, so
that not even a service that was broken into rewrites evidence."""

_READ: Final = frozenset({"SELECT"})
_ADD: Final = frozenset({"SELECT", "INSERT"})
_WRITE: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})

READ_VERSION: Final = f"SELECT ON {VERSION_TABLE}"
"""What `missing` lists as long as nothing has been migrated and granted."""

_UNDEFINED_OBJECT: Final = "42704"
"""SQLSTATE undefined_object (PostgreSQL documentation, appendix A)."""


def grant(url: str, role: str, tables_module: str) -> None:
    """Give a role exactly the rights that a service needs on the tables of a module; `url` is of their owner.

    One transaction: a service that runs meanwhile never lacks a right that it keeps. May be repeated. Raises
    SchemaError when the role is not there or is the owner itself.
    """
    rights = _rights(tables_module)
    engine = create_single_engine(url, application_name="zhichao-migrations")
    with engine.begin() as connection:
        owner = connection.exec_driver_sql("SELECT current_user").scalar_one()
        if owner == role:
            raise SchemaError(
                f"the role {role} owns the tables of database {engine.url.database}: it can do everything whatever is "
                "granted; migrate with one role and run with another"
            )
        quote = connection.dialect.identifier_preparer.quote
        schema = quote(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
        try:
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {quote(role)}")
        except exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == _UNDEFINED_OBJECT:
                raise SchemaError(
                    f"there is no role {role} in the database server of {engine.url.database}: create it, or correct "
                    "the setting …_RUNTIME_ROLE"
                ) from error
            raise
        for table, granted in rights.items():
            name = f"{schema}.{quote(table)}"
            connection.exec_driver_sql(f"REVOKE ALL ON {name} FROM {quote(role)}")
            connection.exec_driver_sql(f"GRANT {', '.join(sorted(granted))} ON {name} TO {quote(role)}")
    log.info("rights_granted", database=engine.url.database, role=role, tables=len(rights))


def missing(url: str, tables_module: str) -> list[str]:
    """List the rights on a module's tables that the role in `url` lacks to run a service, as "INSERT ON weighings"."""
    with create_single_engine(url, application_name="zhichao-migrations").connect() as connection:
        return [
            f"{right} ON {table}"
            for table, rights in _rights(tables_module).items()
            for right in sorted(rights)
            if not _has(connection, table, right)
        ]


def _has(connection: Connection, table: str, right: str) -> bool:
    statement = sqlalchemy.text("SELECT has_table_privilege(to_regclass(quote_ident(:table)), :right)")
    # NULL, and so False, when the table is not there.
    return bool(connection.execute(statement, {"table": table, "right": right}).scalar_one())


def _rights(tables_module: str) -> dict[str, frozenset[str]]:
    rights = {VERSION_TABLE: _READ}
    for declared in vars(import_module(tables_module)).values():
        if isinstance(declared, sqlalchemy.MetaData):
            for table in declared.tables.values():
                rights[table.name] = _ADD if table.info.get("is_append_only") else _WRITE
    return rights
