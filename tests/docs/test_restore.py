"""What docs/operations.md says about restoring a backup, step by step."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.integration.processes import Home

if TYPE_CHECKING:
    from pathlib import Path


def send_tasks(home: Home, count: int) -> None:
    lines = [
        f'{{"type": "tasks.create-task.v1", "data": {{"task_id": "{uuid4()}", "title": "t"}}}}' for _ in range(count)
    ]
    home.run("send", "--file", "-", given="\n".join(lines).encode())
    home.run("wait", "--settled")


def effects(home: Home) -> list[list[tuple[object, ...]]]:
    """What does not depend on the order in which the messages of different keys were handled."""
    return [
        home.query("SELECT transfer_id, source_ref, signed_minor FROM ledger_transfer ORDER BY 1"),
        home.query("SELECT worker_id, balance_minor, version FROM ledger_account ORDER BY 1"),
        home.query("SELECT task_id, assignee FROM tasks_task ORDER BY 1"),
        home.query("SELECT message_id, type, topic, key FROM outbox ORDER BY 1"),
    ]


def test_after_a_restore_everything_is_handled_again_with_the_same_result(tmp_path: Path) -> None:
    """The app reads from its own progress on, and ids, amounts and balances come out as before."""
    with Home(tmp_path) as home:
        home.start_broker()
        app = home.start_app()
        worker = f'{{"worker_id": "{uuid4()}", "name": "A", "email": "a@b.c", "role": "worker"}}'
        home.run("send", "workers.worker-registered.v1", "--data", worker)
        send_tasks(home, 20)
        with (
            closing(sqlite3.connect(tmp_path / "payday.db")) as source,
            closing(sqlite3.connect(tmp_path / "backup.db")) as copy,
        ):
            source.backup(copy)
        send_tasks(home, 30)
        before = effects(home)
        assert len(before[2]) == 50

        assert app.stop() == 0
        (tmp_path / "backup.db").replace(tmp_path / "payday.db")
        for rest in ("payday.db-wal", "payday.db-shm"):
            (tmp_path / rest).unlink(missing_ok=True)
        again = home.start_app()
        home.run("wait", "--settled")
        assert "the database is behind Kafka's committed offset" in again.errors
        assert effects(home) == before
        home.run("audit", "--settled")
