"""Statements over many rows at the cost of one.

SQLAlchemy Core compiles the SQL, the rows go to the driver as tuples: measured, a third faster than executemany with a
dictionary per row. Both drivers send them in one go, asyncpg as one pipeline: measured on PostgreSQL with 500 rows of
the outbox, 4.3 ms against 5.2 ms with one array per column (`unnest`), so that one way serves both.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, String, bindparam, column, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from streams.storage.errors import DatabaseBusy, is_taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import UpdateBase

__all__ = ["among", "execute_many", "insert_absent", "insert_new_rows", "insert_rows", "upsert_rows"]

_compiled: dict[tuple[int, str], tuple[UpdateBase, str, tuple[str, ...]]] = {}


async def execute_many(connection: AsyncConnection, statement: UpdateBase, rows: Sequence[dict[str, Any]]) -> None:
    """Run a statement with named bind parameters once per row, in one round trip.

    Args:
        connection: of a write transaction.
        statement: a module-level constant; it is compiled once per dialect and remembered by identity.
        rows: a value for each bind parameter by name.
    """
    if not rows:
        return
    key = (id(statement), connection.dialect.name)
    if key not in _compiled:
        compiled = statement.compile(dialect=connection.dialect)
        _compiled[key] = (statement, str(compiled), tuple(compiled.positiontup or ()))
    _, sql, names = _compiled[key]
    await connection.exec_driver_sql(sql, [tuple(row[name] for name in names) for row in rows])


_inserts: dict[tuple[int, tuple[str, ...], str], tuple[Table, str, tuple[str, ...]]] = {}


async def insert_rows(
    connection: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert tuples whose values stand in the order of `columns`."""
    if not rows:
        return
    key = (id(table), columns, connection.dialect.name)
    if key not in _inserts:
        statement = insert(table).values({name: bindparam(name) for name in columns})
        compiled = statement.compile(dialect=connection.dialect)
        _inserts[key] = (table, str(compiled), tuple(compiled.positiontup or ()))
    _, sql, names = _inserts[key]
    if names == columns:
        await connection.exec_driver_sql(sql, list(rows))
    else:
        order = [columns.index(name) for name in names]
        await connection.exec_driver_sql(sql, [tuple(row[i] for i in order) for row in rows])


async def insert_new_rows(
    connection: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert tuples whose keys were looked for in this transaction and not found.

    What is not there cannot be locked. On PostgreSQL this waits for a transaction that is inserting the same; give the
    rows in an order that is common to all, so that no two wait for each other.

    Raises:
        DatabaseBusy: somebody else has inserted one of them meanwhile. What was decided is out of date; redone, it
            finds the row.
    """
    try:
        await insert_rows(connection, table, columns, rows)
    except IntegrityError as error:
        if is_taken(error):
            raise DatabaseBusy(f"another transaction was faster to insert into {table.name}") from error
        raise


async def insert_absent(
    connection: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> int:
    """Insert those tuples that break no unique constraint, and leave the other rows as they are.

    Returns:
        How many were inserted.
    """
    if not rows:
        return 0
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    first = next(iter(table.primary_key))
    statement = dialect.insert(table).on_conflict_do_nothing().returning(first)
    result = await connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])
    return len(result.all())


async def upsert_rows(
    connection: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert tuples, or overwrite the rows that have their primary keys.

    Rows are locked in the order given.
    """
    key = (id(table), columns, connection.dialect.name)
    if key not in _upserts:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        keys = [one.name for one in table.primary_key]
        insertion = dialect.insert(table).values({name: bindparam(name) for name in columns})
        _upserts[key] = (
            table,
            insertion.on_conflict_do_update(
                index_elements=keys, set_={name: insertion.excluded[name] for name in columns if name not in keys}
            ),
        )
    await execute_many(connection, _upserts[key][1], [dict(zip(columns, row, strict=True)) for row in rows])


_upserts: dict[tuple[int, tuple[str, ...], str], tuple[Table, UpdateBase]] = {}


def among(connection: AsyncConnection, column_: Column[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """`column IN (values)` as one parameter, so that the statement's text does not depend on how many there are.

    Args:
        connection: tells the dialect.
        column_: of text or integers.
        values: texts or integers.
    """
    if connection.dialect.name == "sqlite":
        each = func.json_each(json.dumps(list(values))).table_valued(column("value"), name="wanted")
        return column_.in_(select(each.c.value))
    element_type = column_.type if column_.type.python_type is int else String()
    return column_ == func.any(bindparam(None, list(values), type_=ARRAY(element_type), unique=True))
