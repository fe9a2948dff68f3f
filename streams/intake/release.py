"""Tries parked records again when their time has come, each key's in order.

Invariant: what is released goes through the same steps as what comes from Kafka, and is claimed inside the transaction
that handles it. So any number of instances may release one group's records; on PostgreSQL they share the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from streams.intake import release_store
from streams.intake.classify import Kind, Outage, classify
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streams.intake.parked_row import ParkedRow
    from streams.intake.subscription import Subscription

__all__ = ["Releaser"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""Finds what another process has parked, and what an operator replays."""
LOCKED_WAIT_SECONDS, NOT_READY_WAIT_SECONDS = 0.02, 0.1
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0
ADOPT_EVERY_SECONDS = 60.0
STORE_LOOK_SECONDS = 5.0
"""Between two looks at how much is parked: so much more may come in beyond the limit."""

Deliver = "Callable[[Sequence[ParkedRow]], Awaitable[int]]"


class Releaser:
    """The release worker of one subscription.

    Args:
        subscription: whose parked records it releases.
        deliver: hands records to the subscription's steps and handler, and says how many have had an outcome.
        ready: whether there is a handler to deliver to.
    """

    def __init__(
        self,
        subscription: Subscription,
        deliver: Callable[[Sequence[ParkedRow]], Awaitable[int]],
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._subscription = subscription
        self._deliver = deliver
        self._ready = ready
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._adopt_at = 0.0
        self._store_at = 0.0

    @property
    def running(self) -> bool:
        """Whether the worker is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Release in the background until `stop`."""
        self._stopping.clear()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"release-{self._subscription.group}")

    async def stop(self) -> None:
        """Finish what is in hand, and release no more."""
        if self._task is not None:
            self._stopping.set()
            self._subscription.release_wanted.set()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def release_due(self, now_ms: int | None = None) -> int:
        """Release what is due now, once; how many records have had an outcome.

        Args:
            now_ms: instead of the database's time; later than that for what is not due yet.

        Raises:
            Outage: something that it needs is away; nothing was spent.
        """
        subscription = self._subscription
        async with subscription.database.read() as connection:
            now_ms = await database_time_ms(connection) if now_ms is None else now_ms
            at_most = 1 if subscription.kill_switch.tripped is not None else subscription.retries.chunk_records
            rows = await release_store.due(connection, subscription.group, subscription.topics, now_ms, at_most)
        return await self._deliver(rows) if rows else 0

    async def adopt(self) -> None:
        """Mend keys without a head. There should be none."""
        subscription = self._subscription
        async with subscription.database.write() as connection:
            now_ms = await database_time_ms(connection)
            orphans = await release_store.adopt(connection, subscription.group, subscription.topics, now_ms)
        if orphans:
            log.error("parked records waited behind nobody", group=subscription.group, keys=orphans)

    async def _run(self) -> None:
        subscription = self._subscription
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while not self._stopping.is_set():
            subscription.release_wanted.clear()
            try:
                wait_seconds = await self._step()
                backoff.reset()
            except Outage as error:
                subscription.pause(error)
                wait_seconds = POLL_SECONDS
            except Exception as error:  # the worker outlives whatever it meets
                wait_seconds = backoff.next_seconds()
                if await classify(error, subscription.database) is Kind.OUTAGE:
                    subscription.pause(Outage(str(error)))
                log.warning("parked records cannot be released", group=subscription.group, error=str(error))
            if wait_seconds:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(subscription.release_wanted.wait(), wait_seconds)

    async def _step(self) -> float:
        """Release once; how long to wait then."""
        subscription = self._subscription
        if subscription.pausing.stops_releasing or not self._ready():
            return NOT_READY_WAIT_SECONDS
        now = asyncio.get_running_loop().time()
        if now >= self._store_at:
            await subscription.check_store()
            self._store_at = now + STORE_LOOK_SECONDS
        if await self.release_due():
            return 0.0
        async with subscription.database.read() as connection:
            now_ms = await database_time_ms(connection)
            due_ms = await release_store.next_due_ms(connection, subscription.group, subscription.topics)
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_EVERY_SECONDS
            await self.adopt()
        if due_ms is None:
            return POLL_SECONDS
        return min(max((due_ms - now_ms) / 1000, LOCKED_WAIT_SECONDS), POLL_SECONDS)
