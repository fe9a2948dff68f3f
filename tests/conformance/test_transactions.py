"""Transactions, looks and migrations: the same promises on both databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from streams.app import ALL_METADATA
from streams.intake.classify import Kind, classify
from streams.storage.clock import database_time_ms
from streams.storage.errors import DatabaseReadOnly
from streams.storage.locks import lock_alone, lock_shared
from streams.storage.migrate import prepare, schema_state, upgrade

if TYPE_CHECKING:
    from streams.storage.database import Database

CLOSE = text("UPDATE ledger_book SET closed_through = :day")
CLOSED = text("SELECT closed_through FROM ledger_book")


async def closed_through(database: Database) -> str | None:
    async with database.read() as connection:
        found: str | None = (await connection.execute(CLOSED)).scalar_one()
        return found


async def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    """Nothing that a migration forgot, nothing that the code no longer knows."""
    state = await schema_state(database, ALL_METADATA)
    assert state.differences == ()
    assert state.matches


async def test_a_migrated_database_is_ready_to_start_on(database: Database) -> None:
    """The start finds nothing to do, and an upgrade changes nothing."""
    before = await schema_state(database)
    await prepare(database)
    await upgrade(database)
    assert await schema_state(database) == before


async def test_a_failed_transaction_leaves_no_trace(database: Database) -> None:
    """An exception in the block rolls everything back, and the next one can write."""

    async def close(day: str, *, fail: bool) -> None:
        async with database.write() as connection:
            await connection.execute(CLOSE, {"day": day})
            if fail:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await close("2026-01-01", fail=True)
    assert await closed_through(database) is None
    await close("2026-01-02", fail=False)
    assert await closed_through(database) == "2026-01-02"


async def test_a_look_sees_one_state(database: Database, other_database: Database) -> None:
    """What is committed in the middle of a look is for the next one."""
    async with database.read() as connection:
        before = (await connection.execute(CLOSED)).scalar_one()
        async with other_database.write() as writing:
            await writing.execute(CLOSE, {"day": "2026-01-01"})
        assert (await connection.execute(CLOSED)).scalar_one() == before
    assert await closed_through(database) == "2026-01-01"


async def test_a_reader_cannot_write(database: Database) -> None:
    """Reports change nothing by mistake, and the refusal has a name."""
    with pytest.raises(DatabaseReadOnly):
        async with database.read() as connection:
            await connection.execute(CLOSE, {"day": "2026-01-01"})


async def test_a_healthy_database_answers_both_probes(database: Database) -> None:
    """So that an error of a handler is blamed on its record."""
    await database.probe()
    await database.probe_write()
    assert await classify(ValueError("a defect"), database) is Kind.FAILURE


async def test_an_error_of_the_callers_own_block_is_left_alone(database: Database) -> None:
    """A file that a handler misses, or its own time-out, says nothing about the database."""

    async def fail(error: Exception) -> None:
        async with database.write() as connection:
            await connection.execute(CLOSED)
            raise error

    for error in (FileNotFoundError("rates.csv"), TimeoutError(), ConnectionRefusedError()):
        with pytest.raises(type(error)):
            await fail(error)


async def test_many_writers_of_one_process_all_get_their_turn(database: Database) -> None:
    """More of them than there are connections."""

    async def add(amount: int) -> None:
        async with database.write() as connection:
            sql = text("INSERT INTO ledger_account (worker_id, balance_minor, version) VALUES (:w, :b, 1)")
            await connection.execute(sql, {"w": str(amount), "b": amount})

    await asyncio.gather(*(add(number) for number in range(30)))
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM ledger_account"))).scalar() == 30


async def test_the_databases_clock_goes_on_inside_a_transaction(database: Database) -> None:
    """It is the time of the question, not of the transaction's beginning."""
    async with database.write() as connection:
        first = await database_time_ms(connection)
        await asyncio.sleep(0.01)
        assert first < await database_time_ms(connection) < first + 60_000


async def test_a_shared_lock_is_shared_and_the_other_one_is_not(database: Database) -> None:
    """Taking both in one transaction is no deadlock either."""
    async with database.write() as connection:
        await lock_alone(connection, "a")
        await lock_shared(connection, "a")
