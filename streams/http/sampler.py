"""Looks at the state behind the app now and then, so that HTTP answers at once whatever is down."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from streams.intake.parking import parked_counts
from streams.outbox.store import backlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.storage.database import Database

__all__ = ["Sampler", "Snapshot"]

log = structlog.get_logger(__name__)

SAMPLE_SECONDS = 2.0
PROBE_TIMEOUT_SECONDS = 1.5


class Lagging(Protocol):
    """A subscription, as far as its lag is concerned."""

    group: str

    def lag(self) -> Mapping[str, int]:
        """Records of this process' partitions that are still to be read, by topic."""
        ...


@dataclass(slots=True)
class Snapshot:
    """What was last seen. Counts keep their last known values while the database is away; the time tells."""

    sampled_at_seconds: float = 0.0
    database_up: bool = False
    broker_up: bool = False
    database_error: str = "not looked at yet"
    broker_error: str = "not looked at yet"
    unsent: int = 0
    oldest_unsent_age_seconds: float = 0.0
    parked: dict[tuple[str, str], int] = field(default_factory=dict)
    lag: dict[tuple[str, str], int] = field(default_factory=dict)


class Sampler:
    """Keeps a snapshot fresh.

    Args:
        database: of the app.
        probe_broker: asks Kafka for a sign of life within the seconds given, in a thread; raises if there is none.
        subscriptions: whose lag is of interest.
    """

    def __init__(
        self, database: Database, probe_broker: Callable[[float], None], subscriptions: Iterable[Lagging]
    ) -> None:
        self.snapshot = Snapshot()
        self._database = database
        self._probe_broker = probe_broker
        self._subscriptions = subscriptions
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sample in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="sampler")

    async def stop(self) -> None:
        """Stop sampling."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def sample(self) -> None:
        """Look once. Never raises: what does not answer is down."""
        snapshot = self.snapshot
        snapshot.database_error, snapshot.broker_error = await asyncio.gather(
            self._error_of(self._read_database()),
            self._error_of(asyncio.to_thread(self._probe_broker, PROBE_TIMEOUT_SECONDS)),
        )
        snapshot.database_up = not snapshot.database_error
        snapshot.broker_up = not snapshot.broker_error
        for subscription in self._subscriptions:
            for topic, lag in subscription.lag().items():
                snapshot.lag[subscription.group, topic] = lag
        snapshot.sampled_at_seconds = time.time()

    async def _read_database(self) -> None:
        async with self._database.read() as connection:
            waiting = await backlog(connection)
            parked = await parked_counts(connection)
        snapshot = self.snapshot
        snapshot.unsent = waiting.unsent
        oldest = waiting.oldest_created_at_ms
        snapshot.oldest_unsent_age_seconds = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
        snapshot.parked = {**dict.fromkeys(snapshot.parked, 0), **parked}

    @staticmethod
    async def _error_of(look: object) -> str:
        """Empty where the look succeeded in time."""
        try:
            await asyncio.wait_for(look, PROBE_TIMEOUT_SECONDS)  # type: ignore[arg-type]  # any awaitable
        except TimeoutError:
            return f"no answer within {PROBE_TIMEOUT_SECONDS:g} s"
        except Exception as error:  # whatever it is, the thing does not answer
            return (str(error).splitlines() or [type(error).__name__])[0][:200]
        return ""

    async def _run(self) -> None:
        while True:
            try:
                await self.sample()
            except Exception as error:  # the sampler outlives whatever it meets
                log.warning("sampling failed", error=str(error))
            await asyncio.sleep(SAMPLE_SECONDS)
