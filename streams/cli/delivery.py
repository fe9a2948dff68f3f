"""Records to Kafka with every acknowledgement accounted for."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from streams.cli.errors import Failed
from streams.outbox.producer import producer_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import KafkaError, Message

    from streams.cli.sending import Sendable
    from streams.outbox.relay import Pace

__all__ = ["Delivery"]

POLL_SECONDS = 0.05
FLUSH_MARGIN_SECONDS = 2.0


class Delivery:
    """Sends records in order and counts what the broker acknowledged.

    Args:
        bootstrap_servers: where Kafka is.
        topic_prefix: stands before every topic.
        pace: holds back where the broker cannot keep what is not read.
        deliver_within_seconds: librdkafka itself tries for so long; a record that is not acknowledged by then ends it.
    """

    def __init__(self, bootstrap_servers: str, topic_prefix: str, pace: Pace, deliver_within_seconds: float) -> None:
        settings = producer_settings(bootstrap_servers) | {
            "message.timeout.ms": max(1, int(deliver_within_seconds * 1000))
        }
        self._producer = Producer(settings, logger=logging.getLogger("payday.librdkafka"))
        self._bootstrap_servers = bootstrap_servers
        self._topic_prefix = topic_prefix
        self._pace = pace
        self._deliver_within_seconds = deliver_within_seconds
        self._error: str | None = None
        self.handed_over = 0
        self.acknowledged = 0

    async def send(self, records: Sequence[Sendable]) -> None:
        """Hand some records over.

        Raises:
            Failed: an earlier one was not acknowledged in time.
        """
        await self._pace.before_writing([(self._topic_prefix + one.topic, _size(one)) for one in records])
        await asyncio.to_thread(self._produce, records)
        self._check()

    async def finish(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            Failed: something was not, in time.
        """
        left = await asyncio.to_thread(self._producer.flush, self._deliver_within_seconds + FLUSH_MARGIN_SECONDS)
        self._check()
        if left:
            self._error = "no answer"
            self._check()

    def _produce(self, records: Sequence[Sendable]) -> None:
        deadline = time.monotonic() + self._deliver_within_seconds
        for record in records:
            while self._error is None:
                try:
                    self._producer.produce(
                        self._topic_prefix + record.topic,
                        key=record.key,
                        value=record.value,
                        headers=list(record.headers),
                        on_delivery=self._answered,
                    )
                except BufferError:  # librdkafka's queue is full: answers make room
                    if time.monotonic() > deadline:
                        self._error = "no answer"
                    self._producer.poll(POLL_SECONDS)
                else:
                    self.handed_over += 1
                    break
        self._producer.poll(0)

    def _answered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        elif self._error is None:
            self._error = error.str()

    def _check(self) -> None:
        if self._error is not None:
            raise Failed(
                f"Kafka at {self._bootstrap_servers} did not acknowledge within {self._deliver_within_seconds:g} s "
                f"({self._error}): {self.acknowledged} messages were acknowledged, of the others any may still arrive. "
                "Sending the same lines again is safe if they carry ids."
            )


def _size(record: Sendable) -> int:
    return len(record.value) + len(record.key) + sum(len(name) + len(value) for name, value in record.headers)
