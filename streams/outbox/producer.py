"""The one producer configuration, and publishing with at most one unacknowledged record per key."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from streams.outbox.headers import unpack
from streams.outbox.verdict import Verdict, described, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from streams.outbox.store import UnsentRow
    from streams.resilience.circuit_breaker import CircuitBreaker, Permit

__all__ = ["MESSAGE_MAX_BYTES", "KafkaProducer", "KeyedPublisher", "Refusal", "Step", "producer_settings"]

MESSAGE_TIMEOUT_MS = 30_000
"""How long librdkafka itself tries to deliver one record before it gives up."""
MESSAGE_MAX_BYTES = 1_000_000
IN_FLIGHT_MAX_RECORDS = 10_000
LOADED_MAX_BYTES = 64_000_000
"""Rows that are in memory, waiting or in flight."""
KEY_MAX_ROWS = 100
"""Rows of one key in memory: a hot key must not take the room of the others."""
POLL_SECONDS = 0.02


def producer_settings(bootstrap_servers: str, message_timeout_ms: int = MESSAGE_TIMEOUT_MS) -> dict[str, Any]:
    """Librdkafka's settings for everything that Payday publishes.

    Acknowledged by every in-sync replica; a repeated attempt inside librdkafka does not duplicate; the same
    partitioner as the Java clients, so that a key's partition does not depend on who writes.

    Args:
        bootstrap_servers: where Kafka is.
        message_timeout_ms: how long librdkafka itself tries to deliver one record. A topic that Kafka does not know is
            believed in for as long, because a new one needs a moment to be known everywhere.
    """
    return {
        "bootstrap.servers": bootstrap_servers,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.timeout.ms": message_timeout_ms,
        "topic.metadata.propagation.max.ms": message_timeout_ms,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "linger.ms": 0,
        "allow.auto.create.topics": False,
        "queue.buffering.max.messages": 2 * IN_FLIGHT_MAX_RECORDS,
    }


class KafkaProducer(Protocol):
    """What is used of a `confluent_kafka.Producer`."""

    def produce(self, topic: str, **options: Any) -> None: ...
    def poll(self, timeout: float) -> int: ...
    def purge(self, in_queue: bool = ..., in_flight: bool = ..., blocking: bool = ...) -> None: ...  # noqa: FBT001


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not acknowledged, and why."""

    row: UnsentRow
    error: str
    verdict: Verdict


@dataclass(slots=True)
class Step:
    """What became known during one call of `KeyedPublisher.step`."""

    acknowledged: list[int]
    refused: list[Refusal]
    published: Counter[str] = field(default_factory=Counter)
    """How many were acknowledged, by topic."""
    produced: int = 0
    """How many were handed to librdkafka."""


Key = tuple[str, bytes]


class KeyedPublisher:
    """Publishes rows so that of each topic and key at most one is unacknowledged.

    A record that librdkafka has given up on may still arrive, after its successors. With one record in flight per
    key there is no successor: what arrives late is a repeat, and first occurrences stay in order. Different keys are in
    flight together, so the price is paid by a single hot key alone: one record per round trip.

    Used from one thread at a time; the callbacks run inside `step`.

    Args:
        producer: of this publisher alone.
        breaker: asked before each record, told of each answer: a missing one is a failure, a refusal shows that the
            broker is there. While it lets nothing through, rows wait here and nothing is spent.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        producer: KafkaProducer,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._breaker = breaker
        self._clock = clock
        self._loaded: dict[int, UnsentRow] = {}
        self._waiting: dict[Key, deque[UnsentRow]] = {}
        self._ready: deque[UnsentRow] = deque()
        self._in_flight: set[int] = set()
        self._crowded: set[Key] = set()
        self._step = Step([], [])
        self.loaded_bytes = 0
        self.broken = False
        """The producer is of no more use; make a new publisher."""

    @property
    def loaded(self) -> int:
        """Rows that were handed over and whose fate is not known yet."""
        return len(self._loaded)

    @property
    def loaded_ids(self) -> Collection[int]:
        """Their ids."""
        return self._loaded.keys()

    @property
    def in_flight(self) -> int:
        """Rows that librdkafka has."""
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether more rows may be loaded."""
        return len(self._loaded) < IN_FLIGHT_MAX_RECORDS and self.loaded_bytes < LOADED_MAX_BYTES

    def crowded_keys(self, topic: str) -> list[bytes]:
        """Keys of a topic that have so many rows here that no more of them are wanted."""
        return [key for (of, key) in self._crowded if of == topic]

    def in_flight_in(self, lanes: Collection[int]) -> int:
        """Rows of these lanes that librdkafka has."""
        return sum(self._loaded[one].lane in lanes for one in self._in_flight)

    def step(self, rows: Iterable[UnsentRow], wait_seconds: float) -> Step:
        """Take over rows that are new, publish what may be published, and collect answers.

        Args:
            rows: unsent, in id order per key; those that are loaded already are passed over.
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

    def drop(self, unwanted: Callable[[UnsentRow], bool]) -> None:
        """Give back rows that are not with librdkafka yet. Whole keys only, or their order is gone."""
        kept: deque[UnsentRow] = deque()
        for row in self._ready:
            if unwanted(row):
                self._give_back(row)
            else:
                kept.append(row)
        self._ready = kept
        for number in self._in_flight:
            row = self._loaded[number]
            if row.key is not None and unwanted(row):
                self._give_back_followers((row.topic, row.key))
                self._waiting[row.topic, row.key] = deque()

    def purge(self) -> Step:
        """Give everything back, also what librdkafka has, which may arrive all the same; the publisher's end.

        Returns:
            What had been answered before.
        """
        self._step = Step([], [])
        self.drop(lambda _row: True)
        self._producer.poll(0)
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.poll(0)
        self.broken = True
        return self._step

    def _load(self, row: UnsentRow) -> None:
        key = (row.topic, row.key) if row.key is not None else None
        if key is not None:
            queue = self._waiting.get(key)
            if queue is None:
                self._waiting[key] = deque()
                self._ready.append(row)
            elif len(queue) >= KEY_MAX_ROWS:
                return
            else:
                queue.append(row)
                if len(queue) > KEY_MAX_ROWS // 2:
                    self._crowded.add(key)
        else:
            self._ready.append(row)
        self._loaded[row.id] = row
        self.loaded_bytes += row.size

    def _produce_ready(self) -> None:
        while self._ready and len(self._in_flight) < IN_FLIGHT_MAX_RECORDS and not self.broken:
            permit = self._breaker.allow() if self._breaker is not None else None
            if self._breaker is not None and permit is None:
                return
            row = self._ready.popleft()
            try:
                self._producer.produce(
                    row.topic,
                    key=row.key,
                    value=row.value,
                    headers=unpack(row.headers),
                    on_delivery=lambda error, _message, row=row, permit=permit: self._answered(row, permit, error),
                )
            except BufferError:  # librdkafka's own queue is full of others: give it time and come back
                self._ready.appendleft(row)
                if permit is not None:
                    permit.abandoned()
                return
            except Exception as error:  # not even queued: too large, not serialisable, no such topic
                self._refused(row, permit, error)
            else:
                self._in_flight.add(row.id)
                self._step.produced += 1

    def _answered(self, row: UnsentRow, permit: Permit | None, error: object | None) -> None:
        self._in_flight.discard(row.id)
        if error is not None:
            self._refused(row, permit, error)
            return
        if permit is not None:
            permit.succeeded()
        self._forget(row)
        self._step.acknowledged.append(row.id)
        self._step.published[row.topic] += 1
        if row.key is not None:
            key = (row.topic, row.key)
            queue = self._waiting[key]
            if queue:
                self._ready.append(queue.popleft())
                if len(queue) <= KEY_MAX_ROWS // 2:
                    self._crowded.discard(key)
            else:
                del self._waiting[key]

    def _refused(self, row: UnsentRow, permit: Permit | None, error: object) -> None:
        verdict = judge(error)
        if permit is not None:
            self._tell(permit, verdict, error)
        self._give_back(row)
        if verdict is Verdict.BROKEN:
            self.broken = True
        if verdict is not Verdict.PURGED:
            self._step.refused.append(Refusal(row, described(error), verdict))

    @staticmethod
    def _tell(permit: Permit, verdict: Verdict, error: object) -> None:
        match verdict:
            case Verdict.UNANSWERED:
                permit.failed()
            case Verdict.TOPIC:
                permit.refused()
            case Verdict.ROW if isinstance(error, Exception):  # the client's own objection: the broker was not asked
                permit.abandoned()
            case Verdict.ROW:
                permit.refused()
            case Verdict.PURGED | Verdict.BROKEN:
                permit.abandoned()

    def _give_back(self, row: UnsentRow) -> None:
        """Forget a row, and with it those of its key that wait behind it: they are read again, in order."""
        self._forget(row)
        if row.key is not None:
            self._give_back_followers((row.topic, row.key))

    def _give_back_followers(self, key: Key) -> None:
        self._crowded.discard(key)
        for follower in self._waiting.pop(key, ()):
            self._forget(follower)

    def _forget(self, row: UnsentRow) -> None:
        if self._loaded.pop(row.id, None) is not None:
            self.loaded_bytes -= row.size
