"""Where the topics begin and end now, asked of the broker with bounded time-outs.

    Exception
    └── BrokerUnreachable    nobody answers there

librdkafka's mock cluster (the embedded broker) forgets everything when it stops, so a position that the database knows
may be one in a topic that no longer exists. There, and only there, a position counts once the group has committed
anything in that partition since the broker started: intake stores offsets after it has moved the position.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from streams.inspection.readings import Position, Reading

__all__ = ["BrokerUnreachable", "End", "LogEnds", "LogEndsReader", "LogEndsSource", "quiet_consumer"]

TIMEOUT_SECONDS = 5.0
MOCK_CLUSTER = "mockCluster"
NO_OFFSET = -1001

_silent = logging.getLogger("payday.librdkafka")


class BrokerUnreachable(Exception):
    """No broker answers at this address."""


@dataclass(frozen=True, slots=True)
class End:
    """Of one partition: the first offset that it still holds, and the one that its next record will get."""

    low: int
    high: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.high <= self.low


@dataclass(frozen=True, slots=True)
class LogEnds:
    """What the broker said in one look.

    Attributes:
        ends: of every partition of the topics that exist.
        foreign: (group, topic, partition) whose position in the database is not one in this broker's log.
    """

    ends: dict[tuple[str, int], End]
    foreign: frozenset[tuple[str, str, int]] = frozenset()

    def unread(self, readings: Iterable[Reading], positions: Iterable[Position]) -> dict[tuple[str, str, int], int]:
        """Records that each group has yet to read, per partition; those that are read to the end are left out."""
        known = {(one.group, one.topic, one.partition): one.next_offset for one in positions}
        left = {}
        for reading in readings:
            for (topic, partition), end in self.ends.items():
                key = (reading.group, topic, partition)
                if topic not in reading.topics:
                    continue
                start = end.low if key in self.foreign else max(known.get(key, end.low), end.low)
                if end.high > start:
                    left[key] = end.high - start
        return left


class LogEndsSource(Protocol):
    """Something that knows where topics begin and end: a broker."""

    async def read(self, topics: Sequence[str], readings: Sequence[Reading] = (), /) -> LogEnds:
        """See `LogEndsReader.read`."""
        ...


def quiet_consumer(bootstrap_servers: str, group: str, **options: object) -> Consumer:
    """A consumer that joins no group, commits nothing, and leaves what there is to say to its caller."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
            "logger": _silent,
            "error_cb": _ignore,
            **options,
        }
    )


class LogEndsReader:
    """Asks one broker, over connections that stay open.

    Args:
        bootstrap_servers: where it is.
        timeout_seconds: of each question.
    """

    def __init__(self, bootstrap_servers: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._timeout_seconds = timeout_seconds
        self._consumers: dict[str, Consumer] = {}
        self._lock = asyncio.Lock()

    async def read(self, topics: Sequence[str], readings: Sequence[Reading] = ()) -> LogEnds:
        """Where these topics begin and end now. Topics that do not exist are left out.

        Args:
            topics: full names.
            readings: groups whose positions are to be checked against the broker's memory.

        Raises:
            BrokerUnreachable: there was no answer in time.
        """
        async with self._lock:
            try:
                return await asyncio.to_thread(self._read, frozenset(topics), readings)
            except KafkaException as error:
                raise BrokerUnreachable(
                    f"Kafka at {self.bootstrap_servers} does not answer: {error.args[0].str()}"
                ) from error

    async def close(self) -> None:
        """Give back the connections."""
        async with self._lock:
            consumers, self._consumers = self._consumers, {}
            for consumer in consumers.values():
                await asyncio.to_thread(consumer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _read(self, topics: frozenset[str], readings: Sequence[Reading]) -> LogEnds:
        consumer = self._consumer("payday-inspection")
        metadata = consumer.list_topics(timeout=self._timeout_seconds)
        ends = {}
        for topic in sorted(topics & metadata.topics.keys()):
            for partition in sorted(metadata.topics[topic].partitions):
                low, high = consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=self._timeout_seconds
                )
                ends[topic, partition] = End(max(low, 0), max(high, 0))
        forgetful = (metadata.cluster_id or "").startswith(MOCK_CLUSTER)
        return LogEnds(ends, self._foreign(ends, readings) if forgetful else frozenset())

    def _foreign(
        self, ends: dict[tuple[str, int], End], readings: Sequence[Reading]
    ) -> frozenset[tuple[str, str, int]]:
        foreign: set[tuple[str, str, int]] = set()
        for reading in readings:
            wanted = [
                TopicPartition(*key) for key, end in ends.items() if key[0] in reading.topics and not end.is_empty
            ]
            if wanted:
                committed = self._consumer(reading.group).committed(wanted, timeout=self._timeout_seconds)
                foreign.update(
                    (reading.group, one.topic, one.partition) for one in committed if one.offset == NO_OFFSET
                )
        return frozenset(foreign)

    def _consumer(self, group: str) -> Consumer:
        if group not in self._consumers:
            self._consumers[group] = quiet_consumer(self.bootstrap_servers, group)
        return self._consumers[group]


def _ignore(_error: object) -> None:
    """What librdkafka reports in passing shows in the answer to the next question."""
