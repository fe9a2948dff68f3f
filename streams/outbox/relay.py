"""The relay: publishes what the outbox holds, and marks it sent once the broker has acknowledged it.

Invariant: a row is marked only after its acknowledgement under `acks=all`; a crash in between repeats it and loses
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import structlog

from streams.outbox.producer import KeyedPublisher
from streams.outbox.store import mark_sent, unsent_rows
from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.outbox.producer import KafkaProducer, Step
    from streams.outbox.store import UnsentRow
    from streams.storage.database import Database

__all__ = ["Pace", "Relay", "RelayObserver", "no_pace"]

log = structlog.get_logger(__name__)

WINDOW_ROWS = 2000
STEP_SECONDS = 0.05
"""How long one step waits for acknowledgements before new rows are looked for: bounds what a slow key costs others."""
IDLE_POLL_SECONDS = 0.5
"""How often an idle relay looks without having been woken: for rows that another process committed."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0


class Pace(Protocol):
    """Holds a writer back where the broker cannot keep what is not read yet (the embedded one)."""

    async def before_writing(self, sizes: Sequence[tuple[str, int]], /) -> None:
        """Wait until this many bytes per topic may be written."""
        ...


class RelayObserver(Protocol):
    """Frees the relay from any one telemetry library. Must be quick and must not raise."""

    def published(self, counts: Mapping[str, int], /) -> None:
        """So many events per topic were acknowledged and marked."""
        ...

    def refused(self, counts: Mapping[str, int], /) -> None:
        """So many events per topic were not acknowledged."""
        ...


class _NoPace:
    async def before_writing(self, _sizes: Sequence[tuple[str, int]], /) -> None:
        return


no_pace: Pace = _NoPace()


class Relay:
    """Publishes committed outbox rows in the background.

    Args:
        database: holds the outbox.
        make_producer: called when the relay starts, so that the broker's address is looked up only then.
        pace: see `Pace`.
        observer: told of what was and was not acknowledged.
    """

    def __init__(
        self,
        database: Database,
        make_producer: Callable[[], KafkaProducer],
        pace: Pace = no_pace,
        observer: RelayObserver | None = None,
    ) -> None:
        self._database = database
        self._make_producer = make_producer
        self._pace = pace
        self._observer = observer
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._publisher: KeyedPublisher | None = None

    def wake(self) -> None:
        """Something was committed: look now."""
        self._woken.set()

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to publish, until `stop`."""
        self._publisher = KeyedPublisher(self._make_producer())
        self._task = asyncio.get_running_loop().create_task(self._run(self._publisher), name="relay")

    async def stop(self, drain_seconds: float) -> None:
        """Publish what is left, for at most so long, and stop."""
        if self._task is None:
            return
        self._stopping = True
        self.wake()
        done, _ = await asyncio.wait({self._task}, timeout=drain_seconds)
        if not done:
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _run(self, publisher: KeyedPublisher) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            self._woken.clear()
            stopping = self._stopping  # as it was before the look: what was committed by then is to be published
            try:
                rows = await self._fetch()
                if not rows and publisher.loaded == 0:
                    if stopping:
                        return
                    await self._sleep(IDLE_POLL_SECONDS)
                    continue
                step = await self._publish(publisher, rows)
            except Exception as error:  # the database is away: nothing is lost, the rows stay where they are
                log.warning("relay cannot reach the database", error=str(error))
                await self._sleep(backoff.next_seconds())
                continue
            if step.refused:
                refusal = step.refused[0]
                log.warning("not acknowledged", topic=refusal.row.topic, error=refusal.error, rows=len(step.refused))
            if step.acknowledged:
                backoff.reset()
            elif step.refused:  # as long as anything goes through, the others do not wait for what does not
                await self._sleep(backoff.next_seconds())

    async def _fetch(self) -> list[UnsentRow]:
        async with self._database.read() as connection:
            return await unsent_rows(connection, WINDOW_ROWS)

    async def _publish(self, publisher: KeyedPublisher, rows: list[UnsentRow]) -> Step:
        await self._pace.before_writing([(row.topic, len(row.value) + len(row.headers)) for row in rows])
        step = await asyncio.to_thread(publisher.step, rows, STEP_SECONDS)
        if step.acknowledged:
            await self._mark(step.acknowledged)
        if self._observer is not None:
            if step.published:
                self._observer.published(step.published)
            if step.refused:
                self._observer.refused(Counter(refusal.row.topic for refusal in step.refused))
        return step

    async def _mark(self, ids: Sequence[int]) -> None:
        """Mark acknowledged rows. As long as that fails they count as unsent and would be repeated."""
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            try:
                async with self._database.write() as connection:
                    await mark_sent(connection, ids, time.time_ns() // 1_000_000)
            except Exception as error:
                if self._stopping:
                    raise
                log.warning("acknowledged rows cannot be marked yet", rows=len(ids), error=str(error))
                await asyncio.sleep(backoff.next_seconds())
            else:
                return

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
