"""Records to Kafka with every acknowledgement accounted for; to the outbox where Kafka does not take them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Producer

from streams.cli.errors import Failed
from streams.inspection.log_ends import BrokerUnreachable
from streams.outbox.direct import DirectPublisher, NotPublished, Outcome
from streams.outbox.envelope import OutgoingMessage, lane_of
from streams.outbox.headers import pack_text
from streams.outbox.producer import producer_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.cli.sending import Sendable
    from streams.outbox.capacity import Capacity
    from streams.outbox.producer import KafkaProducer
    from streams.outbox.relay import Pace
    from streams.storage.database import Database

__all__ = ["Delivery"]

CLOSE_SECONDS = 2.0


class Delivery:
    """Sends records in order and counts what became of them.

    Args:
        bootstrap_servers: where Kafka is.
        topic_prefix: stands before every topic.
        pace: holds back where the broker cannot keep what is not read.
        deliver_within_seconds: librdkafka itself tries for so long; a record that is not acknowledged by then is
            stored, or ends it where there is no database.
        database: whose outbox takes what Kafka does not.
        capacity: of that outbox.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic_prefix: str,
        pace: Pace,
        deliver_within_seconds: float,
        database: Database | None = None,
        capacity: Capacity | None = None,
    ) -> None:
        settings = producer_settings(bootstrap_servers, max(1, int(deliver_within_seconds * 1000)))
        producer: Any = Producer(settings, logger=logging.getLogger("payday.librdkafka"))
        self._publisher = DirectPublisher(cast("KafkaProducer", producer), deliver_within_seconds, database, capacity)
        self._can_store = database is not None
        self._bootstrap_servers = bootstrap_servers
        self._topic_prefix = topic_prefix
        self._pace = pace
        self._deliver_within_seconds = deliver_within_seconds
        self.acknowledged = 0
        self.stored = 0

    async def send(self, records: Sequence[Sendable]) -> None:
        """Send some records, or store them; when this returns it is one of the two for each of them.

        Raises:
            Failed: for some of them it is neither.
        """
        if not records:
            return
        messages = [self._message(record) for record in records]
        sizes = [(one.topic, len(one.value) + len(one.key or b"") + len(one.headers)) for one in messages]
        with suppress(*((BrokerUnreachable,) if self._can_store else ())):  # delivery finds out for itself
            await self._pace.before_writing(sizes)
        try:
            self._count(await self._publisher.publish(messages))
        except NotPublished as error:
            self._count(list(error.outcomes.values()))
            stored = f", {self.stored} were stored" if self.stored else ""
            raise Failed(
                f"Kafka at {self._bootstrap_servers} did not acknowledge within {self._deliver_within_seconds:g} s "
                f"({next(iter(error.reasons.values()))}): {self.acknowledged} messages were acknowledged{stored}, "
                "of the others any may still arrive. Sending the same lines again is safe if they carry ids."
            ) from None

    async def close(self) -> None:
        """Give the producer up."""
        await self._publisher.close(CLOSE_SECONDS)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        self.acknowledged += sum(one is Outcome.SENT for one in outcomes)
        self.stored += sum(one is Outcome.STORED for one in outcomes)

    def _message(self, record: Sendable) -> OutgoingMessage:
        topic, key = self._topic_prefix + record.topic, record.key.encode()
        headers = pack_text(list(record.headers))
        return OutgoingMessage(
            topic, key, lane_of(topic, key), record.value, headers, record.message_id, dict(record.headers)["ce_type"]
        )
