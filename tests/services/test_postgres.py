"""The services' own tests: what others build on holds for a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from streams.app import ALL_METADATA
from streams.storage.database import Database
from streams.storage.migrate import schema_state
from tests.services.postgres import Postgres
from tests.services.postgres_local import LocalPostgres, _copy, binaries
from tests.services.process import Yard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection beside the product's own way."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain, timeout=10)
    yield connection
    connection.terminate()


async def test_a_fresh_database_has_every_table_and_the_rows_of_the_migrations_alone(
    postgres_url: str, database_file: Path
) -> None:
    database = Database(postgres_url)
    state = await schema_state(database, ALL_METADATA)
    await database.close()
    assert state.matches, state
    async with connected(postgres_url) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = {row["tablename"] for row in tables}
        rows = {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in names}
    with closing(sqlite3.connect(database_file)) as migrated:
        assert rows == {
            name: migrated.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in migrated.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_")
        }


async def test_two_fresh_databases_do_not_see_each_other(postgres: Postgres, postgres_url: str) -> None:
    other_url = postgres.fresh_database()
    async with connected(postgres_url) as one, connected(other_url) as other:
        await one.execute("CREATE TABLE mine (a int)")
        assert await other.fetchval("SELECT to_regclass('mine')") is None
    postgres.drop_database(other_url)


async def test_a_database_can_be_had_without_tables(postgres: Postgres) -> None:
    url = postgres.fresh_database(migrated=False)
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    postgres.drop_database(url)


async def test_a_database_is_dropped_although_somebody_is_connected(postgres: Postgres) -> None:
    url = postgres.fresh_database(migrated=False)
    async with connected(url):
        postgres.drop_database(url)
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            async with connected(url):
                pass


def test_a_server_of_somebody_else_is_not_broken_but_the_test_skipped() -> None:
    for harm in (Postgres.kill, Postgres.freeze, Postgres.thaw, Postgres.restart, Postgres.stop):
        with pytest.raises(pytest.skip.Exception, match=r"not: .*elsewhere"):
            harm(Postgres("postgresql+asyncpg://a@127.0.0.1:1/b", "elsewhere"))


async def test_a_killed_server_comes_back_on_its_address_with_what_was_committed(own_postgres: LocalPostgres) -> None:
    url = own_postgres.fresh_database(migrated=False)
    async with connected(url) as committed, connected(url) as left_open:
        await committed.execute("CREATE TABLE t (a int)")
        await committed.execute("INSERT INTO t VALUES (1)")
        await left_open.execute("BEGIN")
        await left_open.execute("INSERT INTO t VALUES (2)")
        own_postgres.kill()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await committed.fetch("SELECT 1")
    own_postgres.restart()
    async with connected(url) as connection:
        assert [row["a"] for row in await connection.fetch("SELECT a FROM t")] == [1]


async def test_a_frozen_server_answers_nothing_and_goes_on_when_thawed(own_postgres: LocalPostgres) -> None:
    async with connected(own_postgres.url) as connection:
        own_postgres.freeze()
        answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
        finished, _ = await asyncio.wait({answer}, timeout=0.3)
        assert not finished
        own_postgres.thaw()
        assert await asyncio.wait_for(answer, 10) == 1


async def test_the_server_of_a_test_waits_for_the_disk(own_postgres: LocalPostgres) -> None:
    async with connected(own_postgres.url) as connection:
        assert await connection.fetchval("SHOW fsync") == "on"


def test_a_copy_of_the_programs_runs_as_the_account_that_could_not_reach_them() -> None:
    yard = Yard()
    with closing(yard):
        programs = binaries(yard)
        if programs.origin == "packaged":
            pytest.skip("the copy is of the wheel's programs, and the distribution's are used here")
        in_place = programs.folder.is_relative_to(Path(sys.prefix))  # else it has been copied already
        copied = replace(programs, folder=_copy(programs.folder, yard)) if in_place else programs
        server = LocalPostgres(copied, yard, durable=False)
        server.start()
        assert server.described.startswith("PostgreSQL 18")
        server.discard()
