"""Bringing a database to this version's tables.

An absent or empty SQLite file is made from nothing at start; anything else, an empty PostgreSQL database too, changes
only by `upgrade`, because an operator should know when that happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect

from streams.storage.errors import DatabaseUnavailable, SchemaMismatch
from streams.storage.locks import lock_alone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from streams.storage.database import Database

__all__ = ["SchemaState", "prepare", "schema_state", "upgrade"]

MIGRATIONS = Path(__file__).with_name("migrations")
UPGRADE_LOCK_SECONDS, UPGRADE_STATEMENT_SECONDS = 60, 3600
UPGRADE_LIMITS = {"lock_timeout": UPGRADE_LOCK_SECONDS, "statement_timeout": UPGRADE_STATEMENT_SECONDS}
"""In place of those for a batch, on PostgreSQL: a large table takes its time."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How a database's tables compare to this version's.

    Attributes:
        current: the database's revision, None where it has none.
        expected: this version's revision.
        empty: whether the database has no tables at all.
        differences: what autogeneration would change, one line each.
    """

    current: str | None
    expected: str
    empty: bool
    differences: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Whether this version can work on it."""
        return self.current == self.expected and not self.differences


async def prepare(database: Database) -> None:
    """Make sure that the tables are there, creating them in an absent or empty SQLite file.

    Raises:
        SchemaMismatch: the tables are of another version, or a server's database is empty.
        DatabaseUnavailable: the file cannot be made.
    """
    if database.path is not None:
        try:
            database.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(f"{database.described} cannot be made: {error}") from error
    state = await schema_state(database)
    if state.matches:
        return
    if state.empty and database.is_sqlite:
        await upgrade(database)
        return
    what = "has no tables yet" if state.empty else f"is at {state.current or 'no known version'}"
    raise SchemaMismatch(f"{database.described} {what}, this version needs {state.expected}: run `payday db upgrade`")


async def upgrade(database: Database) -> None:
    """Run the migrations that are missing, in one transaction.

    Of several at once one does the work; the others wait for it and find nothing to do.
    """
    async with database.write() as connection:
        if not database.is_sqlite:
            for name, seconds in UPGRADE_LIMITS.items():
                await connection.exec_driver_sql(f"SET LOCAL {name} = '{seconds}s'")
        await lock_alone(connection, "upgrade")
        await connection.run_sync(_upgrade)


async def schema_state(database: Database, metadata: Sequence[MetaData] = ()) -> SchemaState:
    """Compare revisions and, where `metadata` is given, every table with it."""
    async with database.read() as connection:
        return await connection.run_sync(_state, metadata)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")


def _state(connection: Connection, metadata: Sequence[MetaData]) -> SchemaState:
    context = MigrationContext.configure(connection, opts={"compare_server_default": False})
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    assert expected is not None, "there is at least one migration"
    differences: list[Any] = _differences(context, metadata) if metadata else []
    return SchemaState(
        context.get_current_revision(),
        expected,
        empty=not inspect(connection).get_table_names(),
        differences=tuple(str(difference) for difference in differences),
    )


def _differences(context: MigrationContext, metadata: Sequence[MetaData]) -> list[Any]:
    """Alembic compares with one MetaData at a time, so gather the tables of all of them in one."""
    together = MetaData()
    for one in metadata:
        for table in one.tables.values():
            table.to_metadata(together)
    return list(compare_metadata(context, together))
