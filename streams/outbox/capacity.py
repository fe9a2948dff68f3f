"""How full the outbox is: rows and bytes that wait, looked at now and then, and when no more is to be put in.

Invariant: what is committed stays; a full outbox only keeps new work out, and opens again by itself once it has emptied
to `REOPEN_SHARE`. Counting goes over all unsent rows, so a look that took long makes the next one wait longer: at most
one part in `COST_SHARE` of the time goes into it. Between two looks a store may be overfilled by what comes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select

from streams.outbox.tables import outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.storage.database import Database

__all__ = ["Capacity", "CapacityLimits", "Filling", "OutboxFull"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
COST_SHARE = 20
REOPEN_SHARE = 0.9


class OutboxFull(Exception):
    """Nothing more can be stored before something has been published."""


@dataclass(frozen=True, slots=True)
class CapacityLimits:
    """How much may wait.

    Attributes:
        max_rows: unsent events.
        max_bytes: their values and headers.
        warning_share: of either, from which on people are told.
    """

    max_rows: int = 2_000_000
    max_bytes: int = 4_000_000_000
    warning_share: float = 0.8


@dataclass(frozen=True, slots=True)
class Filling:
    """What waits, as last seen."""

    rows: int
    bytes: int
    share: float
    """Of the limit that is nearer: 1.0 is full."""


class Capacity:
    """Keeps an eye on how full the outbox is.

    Args:
        database: of the outbox.
        limits: see `CapacityLimits`.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        database: Database,
        limits: CapacityLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or CapacityLimits()
        self._database = database
        self._clock = clock
        self._full = False
        self._look_again_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.filling = Filling(0, 0, 0.0)

    def full_reason(self) -> str | None:
        """Why nothing more is to be put in, for a person; None: there is room. As of the last look."""
        if not self._full:
            return None
        return (
            f"the outbox is full: {self.filling.rows} of {self.limits.max_rows} rows, "
            f"{self.filling.bytes} of {self.limits.max_bytes} bytes wait to be published"
        )

    def start(self) -> None:
        """Look in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="outbox-capacity")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self) -> None:
        """Count now, unless that was done a moment ago."""
        async with self._database.read() as connection:
            await self.seen_by(connection)

    async def check_room(self) -> None:
        """Look, and raise if there is no room.

        Raises:
            OutboxFull: there is none.
        """
        await self.look()
        reason = self.full_reason()
        if reason is not None:
            raise OutboxFull(reason)

    async def seen_by(self, connection: AsyncConnection) -> Filling:
        """The same within a transaction that is open already."""
        began = self._clock()
        if began >= self._look_again_at:
            size = func.length(outbox.c.value) + func.length(outbox.c.headers)
            counted = select(func.count(), func.coalesce(func.sum(size), 0)).where(outbox.c.sent_at_ms.is_(None))
            rows, size_bytes = (await connection.execute(counted)).one()
            self._judge(int(rows), int(size_bytes))
            took = self._clock() - began
            self._look_again_at = began + took + max(LOOK_SECONDS, took * COST_SHARE)
        return self.filling

    def _judge(self, rows: int, size_bytes: int) -> None:
        share = max(rows / self.limits.max_rows, size_bytes / self.limits.max_bytes)
        self.filling = Filling(rows, size_bytes, share)
        was_full, self._full = self._full, share >= (REOPEN_SHARE if self._full else 1.0)
        if self._full and not was_full:
            log.error("the outbox is full", rows=rows, bytes=size_bytes)
        elif was_full and not self._full:
            log.warning("the outbox has room again", rows=rows, bytes=size_bytes)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # what was last seen counts
                log.debug("cannot look how full the outbox is", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)
