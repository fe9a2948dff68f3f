"""The topics of a service on a broker: writing to them, asking where they end, reading them up to there.

Invariant: records are read with `assign()` from positions that are known, so that none is missed: a consumer that
subscribes begins wherever its group's first assignment happens to put it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition, admin

from streams.contract_kit.records import Emitted
from streams.contract_kit.transport import NotSettled
from streams.inspection.log_ends import End, LogEnds, quiet_consumer
from streams.outbox.producer import producer_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.inspection.readings import Reading
    from streams.intake.record import PartitionKey

__all__ = ["WireLog", "WireRecord"]

TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.01
FETCH_WAIT_MAX_MS = 5
"""The mock cluster answers an empty fetch only when this is over."""
BATCH_RECORDS = 1000
PASSING = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
)
"""What Kafka answers about a topic of which the client and the broker have not heard the same news yet."""


@dataclass(frozen=True, slots=True)
class WireRecord:
    """A record at its place. The topic has no prefix."""

    record: Emitted
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def place(self) -> tuple[str, int, int]:
        """What tells it apart from every other."""
        return (self.record.topic, self.partition, self.offset)


class WireLog:
    """All topics of a prefix. Used from one thread at a time.

    Args:
        bootstrap_servers: the broker.
        prefix: of the topics; names go in and come out without it.
    """

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self._prefix = prefix
        self._producer = Producer({**producer_settings(bootstrap_servers), "log_level": 0})
        self._admin = admin.AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        self._consumer = quiet_consumer(
            bootstrap_servers,
            f"{prefix}contract-kit",
            **{"fetch.wait.max.ms": FETCH_WAIT_MAX_MS, "auto.offset.reset": "earliest", "log_level": 0},
        )
        self._positions: dict[PartitionKey, int] = {}

    def write(self, records: Sequence[Emitted]) -> set[tuple[str, int, int]]:
        """Write records, in order within a partition, and wait for their acknowledgements.

        Returns:
            Their places.
        """
        places: set[tuple[str, int, int]] = set()
        errors: list[Any] = []

        def answered(error: Any, message: Any) -> None:
            if error is not None:
                errors.append(error)
            else:
                places.add((message.topic().removeprefix(self._prefix), message.partition(), message.offset()))

        for record in records:
            options: dict[str, Any] = {"key": record.key, "value": record.value, "headers": list(record.headers)}
            self._producer.produce(self._prefix + record.topic, on_delivery=answered, **options)
        self._producer.flush(TIMEOUT_SECONDS)
        if errors or len(places) != len(records):
            raise NotSettled(f"of {len(records)} records the broker acknowledged {len(places)}: {errors[:1]}")
        return places

    def ends(self) -> dict[PartitionKey, int]:
        """Where each partition of each topic ends, by full names, also of topics that nobody should have made."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                return self._ends()
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise NotSettled(f"the broker does not say where topics end: {error}") from error
                time.sleep(POLL_SECONDS)

    def _ends(self) -> dict[PartitionKey, int]:
        metadata = self._admin.list_topics(timeout=TIMEOUT_SECONDS)
        newest = vars(admin)["OffsetSpec"].latest()  # missing from the library's types
        asked = {
            TopicPartition(name, number): newest
            for name, topic in metadata.topics.items()
            if name.startswith(self._prefix)
            for number in topic.partitions
        }
        answers: Any = self._admin.list_offsets(asked, request_timeout=TIMEOUT_SECONDS)
        return {(one.topic, one.partition): answer.result().offset for one, answer in answers.items()}

    def read(self, ends: Mapping[PartitionKey, int]) -> list[WireRecord]:
        """Everything that was not read before, up to there, in order within each partition."""
        for (topic, number), end in ends.items():
            if end > 0 and (topic, number) not in self._positions:
                self._positions[topic, number] = 0
                self._consumer.incremental_assign([TopicPartition(topic, number, 0)])
        found: list[WireRecord] = []
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while any(self._positions.get(key, 0) < end for key, end in ends.items()):
            found += map(self._take, self._consumer.consume(BATCH_RECORDS, POLL_SECONDS))
            if time.monotonic() > deadline:
                raise NotSettled(f"what the service emitted could not be read within {TIMEOUT_SECONDS:g} s")
        return found

    def _take(self, message: Any) -> WireRecord:
        if message.error() is not None:
            raise NotSettled(f"what the service emitted cannot be read: {message.error()}")
        self._positions[message.topic(), message.partition()] = message.offset() + 1
        topic = message.topic().removeprefix(self._prefix)
        record = Emitted(topic, message.key(), message.value(), message.headers() or [])
        return WireRecord(record, message.partition(), message.offset(), message.timestamp()[1])

    def close(self) -> None:
        """Give back the connections."""
        self._consumer.close()


class WireEnds:
    """A `WireLog` as a source of ends for those who watch a service settle.

    The broker lives as long as its service does, so every position in the database is one in its log.
    """

    def __init__(self, log: WireLog) -> None:
        self._log = log

    async def read(self, topics: Sequence[str], _readings: Sequence[Reading] = (), /) -> LogEnds:
        """See `LogEndsReader.read`."""
        ends = await asyncio.to_thread(self._log.ends)
        return LogEnds({key: End(0, end) for key, end in ends.items() if key[0] in topics})
