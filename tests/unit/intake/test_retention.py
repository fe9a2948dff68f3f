"""What can no longer come again is forgotten, step by step; what could, and what was never sent, stays."""

from __future__ import annotations

import pytest

from streams.intake import retention
from streams.intake.retention import Pruner
from streams.storage.database import Database
from tests.kit import note, rows, take
from tests.unit.intake.releases import Handler, subscription


async def test_old_rows_go_in_bounded_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inbox rows and sent outbox rows that are older than the retention; in steps, also where most stay."""
    monkeypatch.setattr(retention, "STEP_ROWS", 3)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    handle = Handler()
    await take(subscription(database), [note(n, str(n), message_id=f"m{n:02}") for n in range(20)], handle)
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE inbox SET recorded_at_ms = 1 WHERE message_id < 'm07'")
        await connection.exec_driver_sql("UPDATE outbox SET sent_at_ms = 1 WHERE id <= 5")
        await connection.exec_driver_sql("UPDATE outbox SET created_at_ms = 1")
    pruner = Pruner(database, 30)
    assert await pruner.prune() == (7, 5)
    assert await pruner.prune() == (0, 0)
    assert await rows(database, "SELECT count(*), min(message_id) FROM inbox") == [(13, "m07")]
    assert await rows(database, "SELECT count(*), count(sent_at_ms) FROM outbox") == [(15, 0)]


async def test_parked_records_stay(database: Database) -> None:
    """Dead ones never expire by themselves, and neither do tombstones."""
    await take(subscription(database), [note(0, "a")], Handler("a"))
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE parked SET parked_at_ms = 1, resolved_at_ms = 1")
    await Pruner(database, 1).prune()
    assert await rows(database, "SELECT count(*) FROM parked") == [(1,)]
