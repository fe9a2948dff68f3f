"""Statements over many rows at the cost of one.

SQLAlchemy Core compiles the SQL, the rows go to the driver as tuples: measured, a third faster than executemany with a
dictionary per row.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, String, bindparam, column, func, insert, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import UpdateBase

__all__ = ["among", "execute_many", "insert_rows"]

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
