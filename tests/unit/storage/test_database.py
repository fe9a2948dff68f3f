"""Transactions on SQLite: one writer at a time, fair, mapped errors."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from streams.app import ALL_METADATA
from streams.storage.database import Database
from streams.storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, SchemaMismatch, is_contention
from streams.storage.migrate import prepare, schema_state, upgrade


async def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    """Nothing that a migration forgot, nothing that the code no longer knows."""
    state = await schema_state(database, ALL_METADATA)
    assert state.differences == ()
    assert state.matches


async def test_an_absent_file_is_made_at_start(tmp_path: Path) -> None:
    """A newcomer needs no extra step, also where the folder is missing."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/deep/down/payday.db")
    await prepare(database)
    assert (await schema_state(database)).matches
    await database.close()


async def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """Tables that are not ours are left alone, and the error says what to do."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE something (x)")
    connection.close()
    database = Database(f"sqlite+aiosqlite:///{path}")
    with pytest.raises(SchemaMismatch, match="payday db upgrade"):
        await prepare(database)
    await database.close()


async def test_upgrading_twice_changes_nothing(database: Database) -> None:
    """An upgrade of what is up to date is no error."""
    await upgrade(database)
    assert (await schema_state(database)).matches


async def test_a_failed_transaction_leaves_no_trace(database: Database) -> None:
    """An exception in the block rolls everything back, and the next one can write."""

    async def insert(fail: bool) -> None:
        async with database.write() as connection:
            await connection.execute(text("UPDATE ledger_book SET closed_through = '2026-01-01'"))
            if fail:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await insert(True)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT closed_through FROM ledger_book"))).scalar() is None
    await insert(False)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT closed_through FROM ledger_book"))).scalar() == "2026-01-01"


async def test_a_reader_cannot_write(database: Database) -> None:
    """Reports cannot hold the write lock by mistake."""
    with pytest.raises(DatabaseReadOnly):
        async with database.read() as connection:
            await connection.execute(text("UPDATE ledger_book SET closed_through = NULL"))


async def test_a_locked_file_is_waited_for(database: Database, database_file: Path) -> None:
    """Another process' write transaction delays ours and does not fail it."""
    blocker = sqlite3.connect(database_file, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
    timer.start()
    started = time.monotonic()
    async with database.write() as connection:
        await connection.execute(text("UPDATE ledger_book SET closed_through = NULL"))
    assert time.monotonic() - started > 0.2
    timer.join()
    blocker.close()


async def test_a_lock_that_is_never_released_is_contention(database_file: Path) -> None:
    """After the lock time-out the caller learns who was in the way, in an error that may be redone."""
    blocker = sqlite3.connect(database_file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite+aiosqlite:///{database_file}", lock_timeout_seconds=0.1)
    with pytest.raises(DatabaseBusy, match="locked by another writer") as caught:
        async with database.write():
            pass
    assert is_contention(caught.value)
    blocker.close()
    await database.close()


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    """A database that cannot be opened is an outage, not a defect of a record."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/nowhere/payday.db")
    with pytest.raises(DatabaseUnavailable):
        await database.probe()
    await database.close()
    await asyncio.sleep(0.1)  # the driver's thread reports the end of a failed opening to this loop


async def test_a_full_database_is_an_outage(database: Database) -> None:
    """Nobody could write now, so no record is to blame."""

    async def fill() -> None:
        async with database.write() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
            await connection.execute(text("UPDATE ledger_book SET closed_through = hex(zeroblob(100000))"))

    with pytest.raises(DatabaseUnavailable, match="full"):
        await fill()


async def test_an_error_of_the_callers_own_block_is_left_alone(database: Database) -> None:
    """A file that a handler misses, or its own time-out, says nothing about the database."""
    for error in (FileNotFoundError("rates.csv"), TimeoutError(), ConnectionRefusedError()):
        with pytest.raises(type(error)):
            async with database.write():
                raise error


async def test_writers_of_one_process_take_turns(database: Database) -> None:
    """Many tasks that write at once each get their transaction."""

    async def add(amount: int) -> None:
        async with database.write() as connection:
            sql = text("INSERT INTO ledger_account (worker_id, balance_minor, version) VALUES (:w, :b, 1)")
            await connection.execute(sql, {"w": str(amount), "b": amount})

    await asyncio.gather(*(add(number) for number in range(30)))
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM ledger_account"))).scalar() == 30


async def test_a_commit_is_on_the_disk(database: Database) -> None:
    """The writer runs with synchronous=FULL and WAL, so an offset stored after a commit never gets ahead of it."""
    async with database.write() as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"


def test_the_template_is_not_world_writable(migrated_file: Path) -> None:
    """A database file is created with the process' own rights."""
    assert not migrated_file.stat().st_mode & stat.S_IWOTH
