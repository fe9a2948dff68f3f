"""A figure counts only if the work was done: whatever is missing in the database is noticed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from benchmarks.bare_sqlite import SqliteStore
from benchmarks.process import WrongResult
from benchmarks.results import check
from benchmarks.workload import EVENTS_PER_TASK, RECORDS_PER_TASK, WORKERS, make_workload

NOW_MS = 1_700_000_000_000
WORKLOAD = make_workload(1)


async def do_the_work(file: Path) -> None:
    """What one task leads to, as the bare loop writes it."""
    ((worker_id, balance),) = WORKLOAD.balances.items()
    handled = 2 * WORKERS + RECORDS_PER_TASK
    store = SqliteStore(file)
    await store.begin()
    await store.save_intake(
        [("tasks", "source", str(number), "type", b"", NOW_MS) for number in range(handled)],
        [("tasks", "topic", 0, handled, handled, handled, NOW_MS)],
    )
    await store.save_tasks(
        [(worker_id, "worker", True)],
        [("task", "title", worker_id, NOW_MS, None)],
        [("assignment", "task", worker_id, "created", NOW_MS)],
        [(NOW_MS, 1)],
    )
    await store.save_accounting(
        [(worker_id, "worker", True)],
        [("task", 10, 20, NOW_MS)],
        [(worker_id, balance, 2)],
        [
            (kind, kind, kind, "debit", "credit", 10, "USD", worker_id, sequence, 10, 10, "day", "day", "task", 0, 0)
            for sequence, kind in enumerate(("fee", "reward"))
        ],
    )
    events = range(1, EVENTS_PER_TASK + 1)
    await store.save_events([(n, "topic", b"key", 0, b"value", b"[]", str(n), "type", NOW_MS) for n in events])
    await store.mark_sent(list(events), NOW_MS)
    await store.commit()
    await store.close()


@pytest.fixture
def done(tmp_path: Path) -> Path:
    file = tmp_path / "payday.db"
    asyncio.run(do_the_work(file))
    return file


def test_work_that_was_done_counts(done: Path) -> None:
    check(f"sqlite+aiosqlite:///{done}", WORKLOAD)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE ledger_account SET balance_minor = balance_minor + 1", "balances differ"),
        ("DELETE FROM ledger_transfer WHERE kind = 'fee'", "1 transfers and 1 completed tasks of 1"),
        ("UPDATE tasks_task SET completed_at_ms = NULL", "2 transfers and 0 completed tasks of 1"),
        ("DELETE FROM inbox WHERE message_id = '0'", "84 records handled"),
        ("DELETE FROM outbox WHERE id = 3", "5 events, 5 of them sent"),
        ("UPDATE outbox SET sent_at_ms = NULL WHERE id = 3", "6 events, 5 of them sent"),
    ],
)
def test_work_that_was_not_done_does_not_count(done: Path, change: str, complaint: str) -> None:
    connection = sqlite3.connect(done)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(WrongResult, match=complaint):
        check(f"sqlite+aiosqlite:///{done}", WORKLOAD)


def test_a_failure_that_was_to_happen_must_have_happened(done: Path) -> None:
    with pytest.raises(WrongResult, match=r"parked are \{\}"):
        check(f"sqlite+aiosqlite:///{done}", make_workload(1, failing=1))
