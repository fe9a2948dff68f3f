"""The relay: publishes what the outbox holds, and marks it sent once the broker has acknowledged it.

Invariants: a row is marked only after its acknowledgement under `acks=all`; a crash in between repeats it and loses
nothing. Only rows of lanes whose lease can be trusted are begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from streams.outbox.lanes import LEASE_SECONDS, BreakerNote, LaneLeases
from streams.outbox.producer import KeyedPublisher
from streams.outbox.store import flag_expired, mark_sent, note_attempts, oldest_by_topic
from streams.outbox.verdict import Verdict
from streams.outbox.window import Window
from streams.resilience.backoff import Backoff
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker, State
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.outbox.producer import KafkaProducer, Step
    from streams.outbox.store import Attempt, UnsentRow
    from streams.resilience.circuit_breaker import BreakerStatus, Transition
    from streams.storage.database import Database

__all__ = ["Pace", "Relay", "RelayLimits", "RelayObserver", "no_pace"]

log = structlog.get_logger(__name__)

STEP_SECONDS = 0.05
"""How long one step waits for acknowledgements before new rows are looked for: bounds what a slow key costs others."""
IDLE_POLL_SECONDS = 0.5
"""How often an idle relay looks without having been woken: for rows that another process committed."""
LEAVING_POLL_SECONDS = 0.2
"""How soon lanes that are to be given back are looked at again."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0
STOP_GRACE_SECONDS = 1.0
"""What a stop takes beyond its drain, each for the last step and for giving the lanes back."""
EXPIRE_LOOK_SECONDS = 10.0
LAST_MARK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How far a relay goes.

    Attributes:
        lease_seconds: how long its lanes stay with it after it was last heard of.
        expire_seconds: a row that is unsent for so long is flagged; it keeps its place and is tried on.
        breaker: when publishing is given up for a while.
    """

    lease_seconds: float = LEASE_SECONDS
    expire_seconds: float = 86_400.0
    breaker: BreakerLimits = field(default_factory=lambda: BreakerLimits(max_open_seconds=30.0))


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

    def breaker_changed(self, state: str, /) -> None:
        """The circuit breaker is closed, open or half-open now. Called from another thread."""
        ...


class _NoPace:
    async def before_writing(self, _sizes: Sequence[tuple[str, int]], /) -> None:
        return


no_pace: Pace = _NoPace()


class Relay:
    """Publishes committed outbox rows in the background.

    Args:
        database: holds the outbox.
        make_producer: called when the relay starts, so that the broker's address is looked up only then, and whenever
            the producer it has can no longer be used.
        pace: see `Pace`.
        observer: told of what was and was not acknowledged.
        limits: see `RelayLimits`.
        clock: seconds that never go back, for lease and breaker.
    """

    def __init__(
        self,
        database: Database,
        make_producer: Callable[[], KafkaProducer],
        pace: Pace = no_pace,
        observer: RelayObserver | None = None,
        limits: RelayLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._make_producer = make_producer
        self._pace = pace
        self._observer = observer
        self._limits = limits or RelayLimits()
        self._clock = clock
        self._breaker = CircuitBreaker(clock, self._limits.breaker, on_transition=self._breaker_changed)
        self._not_closed_since: float | None = None
        self._last_error: str | None = None
        self._noted = State.CLOSED
        self._leases = LaneLeases(database, lease_seconds=self._limits.lease_seconds, clock=clock)
        self._window = Window()
        self._woken = asyncio.Event()
        self._beat_wanted = asyncio.Event()
        self._stopping = False
        self._lost = False
        self._done: frozenset[int] = frozenset()
        self._expire_look_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._beat_task: asyncio.Task[None] | None = None
        self._publisher: KeyedPublisher | None = None

    def wake(self) -> None:
        """Something was committed: look now."""
        self._woken.set()

    @property
    def running(self) -> bool:
        """Whether the background tasks are alive."""
        return all(task is not None and not task.done() for task in (self._task, self._beat_task))

    @property
    def breaker(self) -> BreakerStatus:
        """How the circuit breaker stands."""
        return self._breaker.status()

    @property
    def lanes(self) -> frozenset[int]:
        """The lanes that this instance publishes now."""
        return self._leases.lanes

    def start(self) -> None:
        """Begin to publish, until `stop`; after that it may be started again."""
        assert self._task is None, "a relay is started once at a time"
        self._stopping = False
        self._lost = False
        self._window = Window()
        self._publisher = KeyedPublisher(self._make_producer(), self._breaker, self._clock)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="relay")
        self._beat_task = loop.create_task(self._beat(), name="relay-leases")

    async def stop(self, drain_seconds: float) -> None:
        """Publish what is left, for at most so long, and stop: within `drain_seconds` and a few seconds of grace.

        What librdkafka still has is taken back and stays unsent, though it may arrive all the same.
        """
        if self._task is None or self._beat_task is None:
            return
        self._stopping = True
        self.wake()
        done, _ = await asyncio.wait({self._task}, timeout=drain_seconds)
        if not done:
            self._task.cancel()
        self._beat_task.cancel()
        await asyncio.gather(self._task, self._beat_task, return_exceptions=True)
        self._task = self._beat_task = None
        await self._take_back()
        with contextlib.suppress(Exception):  # the leases end by themselves
            await asyncio.wait_for(self._leases.release(), STOP_GRACE_SECONDS)

    # --- publishing -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            self._woken.clear()
            stopping = self._stopping  # as it was before the look: what was committed by then is to be published
            try:
                publisher = await self._usable_publisher()
                self._leave_lanes(publisher)
                rows = await self._fetch(publisher)
                if not rows and publisher.loaded == 0:
                    if stopping and self._leases.valid:  # else it has not been asked yet what there is to do
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
            elif publisher.in_flight == 0 and self._breaker.state is not State.CLOSED:
                if stopping:  # nothing can go out now
                    return
                await self._sleep(min(IDLE_POLL_SECONDS, max(0.01, self._breaker.status().retry_in_seconds)))
            elif any(refusal.verdict not in {Verdict.ROW, Verdict.TOPIC} for refusal in step.refused):
                # what was refused waits by itself; as long as anything goes through, the others do not wait at all
                await self._sleep(backoff.next_seconds())

    async def _fetch(self, publisher: KeyedPublisher) -> list[UnsentRow]:
        lanes = self._leases.lanes
        if not lanes or not publisher.has_room:
            return []
        async with self._database.read() as connection:
            probing = self._breaker.state is not State.CLOSED
            return await self._window.read(connection, publisher, lanes, probing=probing)

    async def _publish(self, publisher: KeyedPublisher, rows: list[UnsentRow]) -> Step:
        if rows:
            await self._pace.before_writing([(row.topic, row.size) for row in rows])
        lanes = self._leases.lanes  # they may have changed while the pace was kept
        step = await _to_the_end(publisher.step, [row for row in rows if row.lane in lanes], STEP_SECONDS)
        for refusal in step.refused:
            if refusal.verdict is Verdict.UNANSWERED:
                self._last_error = refusal.error
        await self._write_down(publisher, step)
        if self._observer is not None:
            if step.published:
                self._observer.published(step.published)
            if step.refused:
                self._observer.refused(Counter(refusal.row.topic for refusal in step.refused))
        if self._breaker.state is not self._noted:
            self._beat_wanted.set()
        return step

    async def _write_down(self, publisher: KeyedPublisher, step: Step) -> None:
        """Mark acknowledged rows and note refused ones. As long as that fails they count as unsent."""
        if not step.acknowledged and not step.refused:
            return
        attempts: list[Attempt] | None = None
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            try:
                async with self._database.write() as connection:
                    now_ms = await database_time_ms(connection)
                    if attempts is None:
                        attempts = self._window.refused(step.refused, publisher, now_ms)
                    if step.acknowledged:
                        await mark_sent(connection, step.acknowledged, now_ms)
                    await note_attempts(connection, attempts)
            except Exception as error:
                if self._stopping:
                    raise
                log.warning("what was acknowledged cannot be marked yet", rows=len(step.acknowledged), error=str(error))
                await asyncio.sleep(backoff.next_seconds())
            else:
                self._window.acknowledged(step.acknowledged)
                return

    async def _usable_publisher(self) -> KeyedPublisher:
        """The publisher; a new one where the lease was lost or the producer is broken."""
        publisher = self._publisher
        assert publisher is not None, "start() makes it"
        lost = self._lost or (publisher.loaded > 0 and not self._leases.valid)
        if lost or publisher.broken:
            self._lost = False
            why = "lost lease" if lost else "broken producer"
            log.warning("taking back what is queued", why=why, rows=publisher.loaded)
            await self._take_back()
            self._publisher = publisher = KeyedPublisher(self._make_producer(), self._breaker, self._clock)
        return publisher

    def _leave_lanes(self, publisher: KeyedPublisher) -> None:
        """Begin nothing more of lanes that are too many; those with nothing in flight may be given back."""
        leaving = self._leases.leaving
        if leaving:
            publisher.drop(lambda row: row.lane in leaving)
            self._done = frozenset(lane for lane in leaving if not publisher.in_flight_in({lane}))
            if self._done:
                self._beat_wanted.set()

    async def _take_back(self) -> None:
        """Purge the producer; what it had acknowledged by then is marked, if the database answers soon."""
        publisher = self._publisher
        if publisher is None:
            return
        self._publisher = None
        step = await _to_the_end(publisher.purge)
        if step.acknowledged:
            with contextlib.suppress(Exception):  # unmarked, they are repeated
                await asyncio.wait_for(self._mark(step.acknowledged), LAST_MARK_SECONDS)

    async def _mark(self, ids: Sequence[int]) -> None:
        async with self._database.write() as connection:
            await mark_sent(connection, ids, await database_time_ms(connection))

    async def _sleep(self, seconds: float) -> None:
        # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    # --- leases, and what else goes by time -----------------------------------------------------------------------

    async def _beat(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, self._leases.renew_seconds)
        while True:
            self._beat_wanted.clear()
            before = self._leases.lanes
            try:
                self._noted = self._breaker.state
                done, self._done = self._done, frozenset()
                lost = await self._leases.renew(done, self._breaker_note())
                backoff.reset()
            except Exception as error:
                log.warning("lanes cannot be renewed", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            if lost:
                log.warning("lanes were lost to another relay", lanes=sorted(lost))
                self._lost = True
            if self._leases.lanes != before:
                self.wake()
            await self._flag_expired()
            await self._until_next_beat()

    async def _until_next_beat(self) -> None:
        if self._leases.leaving:
            self.wake()
            await asyncio.sleep(LEAVING_POLL_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._leases.renew_seconds):
                await self._beat_wanted.wait()

    async def _flag_expired(self) -> None:
        if self._clock() < self._expire_look_at:
            return
        self._expire_look_at = self._clock() + EXPIRE_LOOK_SECONDS
        try:
            async with self._database.read() as connection:
                before_ms = await database_time_ms(connection) - round(self._limits.expire_seconds * 1000)
                oldest = min((await oldest_by_topic(connection)).values(), default=None)
            if oldest is not None and oldest < before_ms:
                async with self._database.write() as connection:
                    flagged = await flag_expired(connection, before_ms, await database_time_ms(connection))
                if flagged:
                    self._expire_look_at = 0.0
                    log.error("events are not sent in time", rows=flagged, seconds=self._limits.expire_seconds)
        except Exception as error:
            log.warning("cannot look for events that are not sent in time", error=str(error))

    # --- the breaker ------------------------------------------------------------------------------------------------

    def _breaker_changed(self, transition: Transition) -> None:
        """In the publisher's thread."""
        if transition.after is State.CLOSED:
            self._not_closed_since = None
        elif self._not_closed_since is None:
            self._not_closed_since = self._clock()
        before, after = transition.before.value, transition.after.value
        log.warning("relay's circuit breaker", before=before, after=after, why=transition.cause.value)
        if self._observer is not None:
            self._observer.breaker_changed(transition.after.value)

    def _breaker_note(self) -> BreakerNote:
        since, state = self._not_closed_since, self._breaker.state
        seconds = 0.0 if since is None else self._clock() - since
        return BreakerNote(state.value, seconds, self._last_error if state is not State.CLOSED else None)


async def _to_the_end(work: Callable[..., Step], *args: object) -> Step:
    """Run in a thread; a cancellation waits for it, so that nobody else touches the publisher meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
