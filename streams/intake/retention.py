"""Forgets what can no longer come again: inbox rows and sent outbox rows after a time.

The time must exceed what the topics keep: a record that is still there could be read again, and without its inbox row
it would be handled again. (Business keys in the domain's own tables are the guard behind that.) Parked records and
tombstones are not touched.

Invariant: a pass goes through a table in its key's order in bounded steps, each a transaction of its own, with a pause
between them, so that nobody waits long.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import bindparam, delete, select, tuple_

from streams.intake.tables import inbox
from streams.outbox.tables import outbox
from streams.storage.bulk import among, execute_many
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from streams.storage.database import Database

__all__ = ["Pruner"]

log = structlog.get_logger(__name__)

STEP_ROWS = 2000
PAUSE_SECONDS = 0.05
PASS_EVERY_SECONDS = 3600.0
DAY_MS = 86_400_000

_FORGET = delete(inbox).where(
    inbox.c.group_name == bindparam("in_group"),
    inbox.c.source == bindparam("in_source"),
    inbox.c.message_id == bindparam("in_id"),
    inbox.c.recorded_at_ms < bindparam("before_ms"),
)


class Pruner:
    """The worker that forgets.

    Args:
        database: of the app.
        retention_days: how long a handled message is known, and a sent one can be looked up.
    """

    def __init__(self, database: Database, retention_days: float) -> None:
        self._database = database
        self._retention_ms = round(retention_days * DAY_MS)
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the worker is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Prune in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="pruner")

    async def stop(self) -> None:
        """Stop after the step in hand, whatever is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def prune(self) -> tuple[int, int]:
        """One pass; how many inbox rows and outbox rows were old.

        Raises:
            StorageError: the database is away; what was pruned by then stays so.
        """
        async with self._database.read() as connection:
            before_ms = await database_time_ms(connection) - self._retention_ms
        return await self._prune_inbox(before_ms), await self._prune_outbox(before_ms)

    async def _prune_inbox(self, before_ms: int) -> int:
        key = (inbox.c.group_name, inbox.c.source, inbox.c.message_id)
        last = ("", "", "")
        pruned = 0
        while True:
            async with self._database.read() as connection:
                rows = (
                    await connection.execute(
                        select(*key, inbox.c.recorded_at_ms)
                        .where(tuple_(*key) > tuple_(*last))
                        .order_by(*key)
                        .limit(STEP_ROWS)
                    )
                ).all()
            old = [row for row in rows if row.recorded_at_ms < before_ms]
            if old:
                async with self._database.write() as connection:
                    names = ("in_group", "in_source", "in_id", "before_ms")
                    values = [dict(zip(names, (*row[:3], before_ms), strict=True)) for row in old]
                    await execute_many(connection, _FORGET, values)
            pruned += len(old)
            if len(rows) < STEP_ROWS:
                return pruned
            last = tuple(rows[-1][:3])
            await asyncio.sleep(PAUSE_SECONDS)

    async def _prune_outbox(self, before_ms: int) -> int:
        last = 0
        pruned = 0
        while True:
            async with self._database.read() as connection:
                rows = (
                    await connection.execute(
                        select(outbox.c.id, outbox.c.sent_at_ms)
                        .where(outbox.c.id > last)
                        .order_by(outbox.c.id)
                        .limit(STEP_ROWS)
                    )
                ).all()
            old = [row.id for row in rows if row.sent_at_ms is not None and row.sent_at_ms < before_ms]
            if old:
                async with self._database.write() as connection:
                    await connection.execute(
                        delete(outbox).where(among(connection, outbox.c.id, old), outbox.c.sent_at_ms < before_ms)
                    )
            pruned += len(old)
            if len(rows) < STEP_ROWS:
                return pruned
            last = rows[-1].id
            await asyncio.sleep(PAUSE_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                messages, events = await self.prune()
                if messages or events:
                    log.info("old rows forgotten", inbox=messages, outbox=events)
            except Exception as error:  # the worker outlives whatever it meets
                log.warning("old rows cannot be forgotten yet", error=str(error))
            await asyncio.sleep(PASS_EVERY_SECONDS)
