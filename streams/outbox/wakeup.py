"""Wakes relays of other processes when rows were committed: PostgreSQL's LISTEN and NOTIFY.

Invariant: a wake-up is a hint. A relay that misses one finds the rows when it looks by itself, so that nothing here has
to be exact: it is only faster.

On SQLite nobody notifies: a relay in the process that wrote is woken there, any other one looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import text

from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.storage.database import Database

__all__ = ["OutboxListener", "notify_relays"]

log = structlog.get_logger(__name__)

CHANNEL = "payday_outbox"
"""A channel belongs to one database, so that apps in different ones do not wake each other."""
CHECK_SECONDS = 30.0
"""How often a quiet connection is asked for a sign of life: one whose server has vanished says nothing for ever."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 10.0
_NOTIFY = text("SELECT 1 FROM (SELECT pg_notify(:channel, '')) sent")


async def notify_relays(connection: AsyncConnection) -> None:
    """Wake every relay once this transaction has committed; not at all if it does not."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NOTIFY, {"channel": CHANNEL})


class OutboxListener:
    """One connection that listens, for as long as the process lives.

    Args:
        database: of the outbox.
        wake: told that there is something; must be quick.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()

    def start(self) -> None:
        """Begin to listen, where there is something to listen to."""
        if not self._database.is_sqlite:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="outbox-listener")

    async def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            try:
                await self._listen(backoff)
            except Exception as error:  # the relay looks by itself meanwhile
                log.warning("cannot listen for the outbox; the relay looks by itself", error=str(error))
            self.listening.clear()
            await asyncio.sleep(backoff.next_seconds())

    async def _listen(self, backoff: Backoff) -> None:
        """Listen until the connection ends."""
        async with self._database.outside_transactions() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            ended = asyncio.Event()
            driver.add_termination_listener(lambda _connection: ended.set())
            await driver.add_listener(CHANNEL, lambda *_notification: self._wake())
            self.listening.set()
            self._wake()  # for what was committed while nobody listened
            backoff.reset()
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), CHECK_SECONDS)
                    return
                await connection.execute(text("SELECT 1"))
