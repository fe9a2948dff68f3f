"""A ledger from before payouts is widened without losing a row or a rule."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic import command

from streams.app import ALL_METADATA
from streams.storage.database import Database
from streams.storage.migrate import _config, schema_state, upgrade

if TYPE_CHECKING:
    from pathlib import Path

ROW = (
    "INSERT INTO ledger_transfer (transfer_id, source_ref, kind, debit_account, credit_account, amount_minor, "
    "currency, worker_id, sequence, signed_minor, balance_after_minor, period, business_date, occurred_at_ms, "
    "recorded_at_ms) "
    "VALUES ('{id}', '{ref}', '{kind}', 'd', 'c', {amount}, 'USD', {worker}, '2026-11-20', '2026-11-20', 1, 1)"
)
SOMEBODY, NOBODY = "'ada', {sequence}, 5, 5", "NULL, NULL, NULL, NULL"


def row(number: int, kind: str = "fee", worker: str = SOMEBODY, amount: int = 5, ref: str | None = None) -> str:
    whose = worker.format(sequence=number)
    return ROW.format(id=f"x{number}", ref=ref or f"r{number}", kind=kind, worker=whose, amount=amount)


@pytest.fixture
async def widened(tmp_path: Path) -> Path:
    """Made by the version before, filled, then upgraded."""
    file = tmp_path / "old.db"
    database = Database(f"sqlite+aiosqlite:///{file}")
    async with database.write() as connection:
        await connection.run_sync(lambda one: command.upgrade(_config(one), "0002"))
        await connection.exec_driver_sql(row(1))
    await upgrade(database)
    state = await schema_state(database, ALL_METADATA)
    assert state.matches
    assert not state.differences
    await database.close()
    return file


def test_rows_are_kept(widened: Path) -> None:
    """Every column of them."""
    with closing(sqlite3.connect(widened)) as connection:
        (found,) = connection.execute("SELECT * FROM ledger_transfer").fetchall()
    assert found[:3] == ("x1", "r1", "fee")
    assert found[7:11] == ("ada", 1, 5, 5)


@pytest.mark.parametrize(
    "statement",
    [
        row(2, ref="r1"),
        row(1).replace("'x1'", "'x9'").replace("'r1'", "'r9'"),
        row(2, amount=0),
        row(2, worker=NOBODY),
        row(2, kind="settlement"),
        row(2, kind="settlement", worker="NULL, NULL, 5, NULL"),
    ],
    ids=["source_ref twice", "sequence twice", "no amount", "no worker", "a settlement's worker", "half a worker"],
)
def test_the_rules_hold_on(widened: Path, statement: str) -> None:
    """Those from before and the new one."""
    with closing(sqlite3.connect(widened)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_a_settlement_has_no_worker(widened: Path) -> None:
    """Several of them do not get into each other's way."""
    with closing(sqlite3.connect(widened)) as connection:
        for number in (2, 3):
            connection.execute(row(number, kind="settlement", worker=NOBODY))
