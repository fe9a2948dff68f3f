"""Publishing without a transaction at hand: to Kafka now, or into the outbox when Kafka does not take it.

Invariants: a message is `sent` only after its acknowledgement, `stored` only after its commit, anything else raises; of
a key nothing overtakes what is stored. A message that was not acknowledged in time is stored although it may still
arrive: it may come twice, with the same `ce_id`, and never not at all.

NotPublished   neither sent nor stored, and why
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from streams.outbox.capacity import OutboxFull
from streams.outbox.producer import KeyedPublisher
from streams.outbox.store import UnsentRow, append, keys_waiting
from streams.outbox.verdict import Verdict
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker, State
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.outbox.capacity import Capacity
    from streams.outbox.envelope import OutgoingMessage
    from streams.outbox.producer import KafkaProducer
    from streams.storage.database import Database

__all__ = ["DirectPublisher", "NotPublished", "Outcome", "store_messages"]

log = structlog.get_logger(__name__)

STEP_SECONDS = 0.05
DELIVER_MARGIN_SECONDS = 2.0
"""How much longer than librdkafka itself an answer is waited for."""


class Outcome(StrEnum):
    """What became of a message."""

    SENT = "sent"
    """The broker has acknowledged it."""
    STORED = "stored"
    """It is committed to the outbox, and a relay will publish it."""


class NotPublished(Exception):
    """Some messages were neither sent nor stored.

    Attributes:
        outcomes: of the others, by position.
        reasons: why not, by position.
    """

    def __init__(self, outcomes: dict[int, Outcome], reasons: dict[int, str]) -> None:
        self.outcomes = outcomes
        self.reasons = reasons
        first = next(iter(reasons.values()), "nothing was asked")
        super().__init__(f"{len(reasons)} of {len(reasons) + len(outcomes)} messages were not published: {first}")


@dataclass(slots=True)
class _Round:
    """One call of `publish`."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    unsent: set[int] = field(default_factory=set)
    unanswered: str = "the circuit breaker is open"


class DirectPublisher:
    """Publishes messages in the order given per topic and key.

    Calls wait for each other; give several messages to one call.

    Args:
        producer: of this publisher alone; its `message.timeout.ms` bounds one delivery.
        deliver_within_seconds: that bound.
        database: whose outbox takes what Kafka does not; None: there is none, and what is not sent raises.
        capacity: refuses to store when the outbox is full.
        breaker: by default one of its own.
    """

    def __init__(
        self,
        producer: KafkaProducer,
        deliver_within_seconds: float,
        database: Database | None = None,
        capacity: Capacity | None = None,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breaker = breaker or CircuitBreaker(clock, BreakerLimits(max_open_seconds=30.0))
        self._producer = producer
        self._deliver_within_seconds = deliver_within_seconds
        self._database = database
        self._capacity = capacity
        self._clock = clock
        self._turn = asyncio.Lock()

    async def publish(self, messages: Sequence[OutgoingMessage]) -> list[Outcome]:
        """Send what can be sent now, store the rest.

        Raises:
            NotPublished: some of them were refused (too large, unknown topic), or could be neither sent nor stored.
        """
        async with self._turn:
            this = _Round()
            behind = await self._keys_in_store(messages)
            rows = [
                UnsentRow(number, one.topic, one.key, one.value, one.headers, one.lane)
                for number, one in enumerate(messages)
            ]
            direct = [row for row in rows if row.key is None or (row.topic, row.key) not in behind]
            if direct:
                publishing = asyncio.ensure_future(asyncio.to_thread(self._send, direct, this))
                try:
                    await asyncio.shield(publishing)
                except asyncio.CancelledError:  # nobody else may touch the producer before the thread has ended
                    await asyncio.wait({publishing})
                    raise
            this.unsent = {row.id for row in rows} - this.outcomes.keys() - this.reasons.keys()
            if this.unsent:
                await self._store([messages[number] for number in sorted(this.unsent)], sorted(this.unsent), this)
            if this.reasons:
                raise NotPublished(this.outcomes, this.reasons)
            return [this.outcomes[number] for number in range(len(messages))]

    async def _keys_in_store(self, messages: Sequence[OutgoingMessage]) -> set[tuple[str, bytes]]:
        """Keys that must not be sent past what is stored of them. Who cannot ask could not store either."""
        if self._database is None:
            return set()
        try:
            async with self._database.read() as connection:
                return await keys_waiting(connection, {(one.topic, one.key) for one in messages if one.key is not None})
        except Exception as error:
            reason = f"cannot ask what is stored: {_first_line(error)}"
            raise NotPublished({}, dict.fromkeys(range(len(messages)), reason)) from error

    def _send(self, rows: list[UnsentRow], this: _Round) -> None:
        """In a thread: one bounded delivery for each row, one unacknowledged row per key."""
        publisher = KeyedPublisher(self._producer, self.breaker, self._clock)
        deadline = self._clock() + self._deliver_within_seconds + DELIVER_MARGIN_SECONDS
        left = rows
        tainted: dict[tuple[str, bytes], str | None] = {}  # keys of which something was not sent; if refused, why
        while left or publisher.loaded:
            offered = [row for row in left if publisher.has_room and (row.topic, row.key) not in tainted]
            step = publisher.step(offered, STEP_SECONDS)
            this.outcomes.update(dict.fromkeys(step.acknowledged, Outcome.SENT))
            for refusal in step.refused:
                refused = refusal.verdict in {Verdict.ROW, Verdict.TOPIC}
                if refusal.row.key is not None:
                    tainted[refusal.row.topic, refusal.row.key] = refusal.error if refused else None
                if refused:
                    this.reasons[refusal.row.id] = refusal.error
                else:
                    this.unanswered = refusal.error
                    this.unsent.add(refusal.row.id)
            given_up = publisher.in_flight == 0 and self.breaker.state is not State.CLOSED
            if publisher.broken or given_up or self._clock() > deadline:
                break
            settled = this.outcomes.keys() | this.reasons.keys() | this.unsent
            left = [row for row in left if row.id not in settled and (row.topic, row.key) not in tainted]
        late = publisher.purge() if publisher.loaded else None
        if late is not None:
            this.outcomes.update(dict.fromkeys(late.acknowledged, Outcome.SENT))
        for row in rows:  # what stands behind a refused message of its key is not published past it
            error = tainted.get((row.topic, row.key)) if row.key is not None else None
            if error is not None and row.id not in this.outcomes:
                this.reasons.setdefault(row.id, f"an earlier message of its key was refused: {error}")

    async def _store(self, messages: list[OutgoingMessage], numbers: list[int], this: _Round) -> None:
        if self._database is None:
            this.reasons.update(dict.fromkeys(numbers, this.unanswered))
            return
        try:
            await store_messages(self._database, self._capacity, messages)
        except Exception as error:
            reason = f"{this.unanswered}; and it cannot be stored: {_first_line(error)}"
            this.reasons.update(dict.fromkeys(numbers, reason))
        else:
            this.outcomes.update(dict.fromkeys(numbers, Outcome.STORED))

    async def close(self, within_seconds: float) -> None:
        """Give the producer up; within a bound, whatever the broker does."""

        def end() -> None:
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            self._producer.poll(0)

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(end), within_seconds)


async def store_messages(database: Database, capacity: Capacity | None, messages: Sequence[OutgoingMessage]) -> None:
    """Put messages into the outbox, in order.

    Raises:
        OutboxFull: there is no room.
        StorageError: they could not be committed.
    """
    if capacity is not None:
        await capacity.look()
        reason = capacity.full_reason()
        if reason is not None:
            raise OutboxFull(reason)
    async with database.write() as connection:
        await append(connection, messages, await database_time_ms(connection))
    log.info("stored for the relay", messages=len(messages))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
