"""The worker that carries out reassignments, a bounded chunk of tasks per transaction.

Invariant: a chunk's new assignees, its events and the reassignment's cursor are one transaction, so that a crash
neither skips a task nor charges it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from streams.intake.deciders import Change, State
from streams.outbox.envelope import outgoing
from streams.outbox.store import append
from streams.resilience.backoff import Backoff
from streams.tasks import store
from streams.tasks.domain import AssignmentKey, TaskKey, assign

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.outbox.envelope import MessageCatalog
    from streams.storage.database import Database
    from streams.tasks.domain import Rules

__all__ = ["Reassigner"]

log = structlog.get_logger(__name__)

CHUNK_TASKS = 500
PAUSE_SECONDS = 0.005
"""Between chunks: lets other writers of an SQLite file have their turn."""
IDLE_POLL_SECONDS = 1.0
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0


class Reassigner:
    """Goes through the open tasks of each accepted reassignment.

    Args:
        database: holds the tasks.
        catalog: describes the emitted events.
        rules: the deployment's.
        topic_prefix: stands before the events' topics.
        wake_relay: called after each chunk.
    """

    def __init__(
        self,
        database: Database,
        catalog: MessageCatalog,
        rules: Rules,
        *,
        topic_prefix: str,
        wake_relay: Callable[[], None],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._rules = rules
        self._topic_prefix = topic_prefix
        self._wake_relay = wake_relay
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """A reassignment was accepted: look now."""
        self._woken.set()

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Work in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="reassigner")

    async def stop(self) -> None:
        """Stop between two steps; what is unfinished goes on after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def run_until_idle(self) -> None:
        """Carry out everything that is pending."""
        while await self.run_chunk():  # noqa: ASYNC110  not waiting for anything: making room for other writers
            await asyncio.sleep(PAUSE_SECONDS)

    async def run_chunk(self) -> bool:
        """Reassign up to `CHUNK_TASKS` tasks; whether there was anything to do."""
        now_ms = time.time_ns() // 1_000_000
        async with self._database.read() as connection:
            if not await store.is_reassigning(connection):
                return False
        async with self._database.write() as connection:
            pending = await store.next_reassignment(connection, now_ms)
            if pending is None:
                return False
            workers = await store.active_workers(connection)
            tasks = await store.open_tasks(connection, pending.cursor, pending.up_to, CHUNK_TASKS) if workers else []
            state = State({TaskKey: {}, AssignmentKey: {}})
            messages = []
            for task in tasks:
                for outcome in assign(self._rules, task, workers, pending.cause, "reassigned"):
                    if isinstance(outcome, Change):
                        outcome.apply(state)
                    else:
                        name = f"reassigned/{task.task_id}"
                        messages.append(
                            outgoing(self._catalog, outcome, pending.cause, name, topic_prefix=self._topic_prefix)
                        )
            state.keep()
            await store.update_tasks(connection, list(state.changed(TaskKey).values()))
            await store.insert_assignments(connection, list(state.changed(AssignmentKey).values()))
            await append(connection, messages, now_ms)
            finished = len(tasks) < CHUNK_TASKS
            cursor = pending.up_to if finished else tasks[-1].number
            await store.finish_chunk(connection, pending, cursor or 0, now_ms if finished else None)
        self._wake_relay()
        return True

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            self._woken.clear()
            try:
                await self.run_until_idle()
            except Exception as error:  # the database is away or busy: the chunk left no trace
                log.warning("reassignment is waiting for the database", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), IDLE_POLL_SECONDS)
