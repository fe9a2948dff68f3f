"""The one producer configuration, and publishing with at most one unacknowledged record per key."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from streams.outbox.headers import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.outbox.store import UnsentRow

__all__ = ["MESSAGE_MAX_BYTES", "KafkaProducer", "KeyedPublisher", "Refusal", "Step", "producer_settings"]

MESSAGE_TIMEOUT_MS = 30_000
"""How long librdkafka itself tries to deliver one record before it gives up."""
MESSAGE_MAX_BYTES = 1_000_000
IN_FLIGHT_MAX_RECORDS = 10_000
POLL_SECONDS = 0.02


def producer_settings(bootstrap_servers: str) -> dict[str, Any]:
    """Librdkafka's settings for everything that Payday publishes.

    Acknowledged by every in-sync replica; a repeated attempt inside librdkafka does not duplicate; the same
    partitioner as the Java clients, so that a key's partition does not depend on who writes.
    """
    return {
        "bootstrap.servers": bootstrap_servers,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "linger.ms": 0,
        "allow.auto.create.topics": False,
        "queue.buffering.max.messages": 2 * IN_FLIGHT_MAX_RECORDS,
    }


class KafkaProducer(Protocol):
    """What is used of a `confluent_kafka.Producer`."""

    def produce(self, topic: str, **options: Any) -> None: ...
    def poll(self, timeout: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not acknowledged, and why."""

    row: UnsentRow
    error: str


@dataclass(slots=True)
class Step:
    """What became known during one call of `KeyedPublisher.step`."""

    acknowledged: list[int]
    refused: list[Refusal]
    published: Counter[str] = field(default_factory=Counter)
    """How many were acknowledged, by topic."""


Key = tuple[str, bytes]


class KeyedPublisher:
    """Publishes rows so that of each topic and key at most one is unacknowledged.

    A record that librdkafka has given up on may still arrive, after its successors. With one record in flight per
    key there is no successor: what arrives late is a repeat, and first occurrences stay in order. Different keys are in
    flight together, so the price is paid by a single hot key alone: one record per round trip.

    Used from one thread at a time; the callbacks run inside `step`.
    """

    def __init__(self, producer: KafkaProducer, clock: Callable[[], float] = time.monotonic) -> None:
        self._producer = producer
        self._clock = clock
        self._loaded: set[int] = set()
        self._waiting: dict[Key, deque[UnsentRow]] = {}
        self._ready: deque[UnsentRow] = deque()
        self._in_flight = 0
        self._step = Step([], [])

    @property
    def loaded(self) -> int:
        """Rows that were handed over and whose fate is not known yet."""
        return len(self._loaded)

    @property
    def in_flight(self) -> int:
        """Rows that librdkafka has."""
        return self._in_flight

    def step(self, rows: Iterable[UnsentRow], wait_seconds: float) -> Step:
        """Take over rows that are new, publish what may be published, and collect answers.

        Args:
            rows: unsent, in id order; those that are loaded already are passed over.
            wait_seconds: return after this long even if answers are missing; they come with a later step.
        """
        for row in rows:
            if row.id not in self._loaded:
                self._load(row)
        self._step = Step([], [])
        deadline = self._clock() + wait_seconds
        self._produce_ready()
        while self._in_flight and (left := deadline - self._clock()) > 0:
            self._producer.poll(min(left, POLL_SECONDS))
            self._produce_ready()
        self._producer.poll(0)
        return self._step

    def _load(self, row: UnsentRow) -> None:
        self._loaded.add(row.id)
        if row.key is None:
            self._ready.append(row)
            return
        key = (row.topic, row.key)
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            self._ready.append(row)
        else:
            queue.append(row)

    def _produce_ready(self) -> None:
        while self._ready and self._in_flight < IN_FLIGHT_MAX_RECORDS:
            row = self._ready.popleft()
            try:
                self._producer.produce(
                    row.topic,
                    key=row.key,
                    value=row.value,
                    headers=unpack(row.headers),
                    on_delivery=lambda error, _message, row=row: self._answered(row, error),
                )
            except BufferError:  # librdkafka's own queue is full of others: give it time and come back
                self._ready.appendleft(row)
                return
            except Exception as error:  # refused before it was queued: too large, or not serialisable
                self._refused(row, str(error))
            else:
                self._in_flight += 1

    def _answered(self, row: UnsentRow, error: object | None) -> None:
        self._in_flight -= 1
        if error is not None:
            self._refused(row, str(error))
            return
        self._loaded.discard(row.id)
        self._step.acknowledged.append(row.id)
        self._step.published[row.topic] += 1
        if row.key is not None:
            key = (row.topic, row.key)
            queue = self._waiting[key]
            if queue:
                self._ready.append(queue.popleft())
            else:
                del self._waiting[key]

    def _refused(self, row: UnsentRow, error: str) -> None:
        """Give the row back, and with it those of its key that wait behind it: they are read again, in order."""
        self._loaded.discard(row.id)
        self._step.refused.append(Refusal(row, error))
        if row.key is not None:
            for follower in self._waiting.pop((row.topic, row.key), ()):
                self._loaded.discard(follower.id)
