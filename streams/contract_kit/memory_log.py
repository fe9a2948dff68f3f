"""Topics in memory, and a consumer of them as far as intake knows one.

Invariant: within a partition records are delivered in offset order, each again until the position moves past it, so
that storing and seeking mean what they mean on Kafka.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from confluent_kafka import OFFSET_INVALID, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.intake.record import PartitionKey
    from streams.outbox.headers import Headers

__all__ = ["PARTITIONS", "LogRecord", "MemoryConsumer", "MemoryLog"]

PARTITIONS = 4
CREATE_TIME = 1
"""Kafka's number for a timestamp that the sender set."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record at its place; answers as a `confluent_kafka.Message` does."""

    arrival: int
    topic_name: str
    partition_number: int
    offset_number: int
    timestamp_ms: int
    key_bytes: bytes | None
    value_bytes: bytes | None
    header_list: Headers

    def topic(self) -> str:
        return self.topic_name

    def partition(self) -> int:
        return self.partition_number

    def offset(self) -> int:
        return self.offset_number

    def key(self) -> bytes | None:
        return self.key_bytes

    def value(self) -> bytes | None:
        return self.value_bytes

    def headers(self) -> Headers:
        return self.header_list

    def timestamp(self) -> tuple[int, int]:
        return (CREATE_TIME, self.timestamp_ms)


class MemoryLog:
    """Every topic that somebody has written to, with `PARTITIONS` partitions each."""

    def __init__(self) -> None:
        self._partitions: dict[PartitionKey, list[LogRecord]] = {}
        self._arrivals = itertools.count()

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Write a record. A key always has the same partition; records without one take turns."""
        arrival = next(self._arrivals)
        number = (arrival if key is None else crc32(key)) % PARTITIONS
        partition = self._partitions.setdefault((topic, number), [])
        now_ms = time.time_ns() // 1_000_000
        partition.append(LogRecord(arrival, topic, number, len(partition), now_ms, key, value, headers))

    def read(self, partition: PartitionKey, start: int, at_most: int) -> list[LogRecord]:
        """Records from an offset on."""
        return self._partitions.get(partition, [])[start : start + at_most]

    def end(self, partition: PartitionKey) -> int:
        """The offset that the next record will have."""
        return len(self._partitions.get(partition, ()))


class MemoryConsumer:
    """What intake uses of a `confluent_kafka.Consumer`, over a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: dict[PartitionKey, int] = {}
        self._stored: dict[PartitionKey, int] = {}
        self._paused: set[PartitionKey] = set()

    # --- for the test ---------------------------------------------------------------------------------------------

    def poll(self, max_records: int) -> tuple[LogRecord, ...]:
        """The next records of all partitions that are not paused, in the order in which they were written."""
        ready = [
            record
            for partition, start in self._positions.items()
            if partition not in self._paused
            for record in self._log.read(partition, start, max_records)
        ]
        batch = tuple(sorted(ready, key=lambda record: record.arrival)[:max_records])
        for record in batch:
            self._positions[record.topic_name, record.partition_number] = record.offset_number + 1
        return batch

    def unfinished(self) -> dict[PartitionKey, int]:
        """How many records of each partition lie beyond the stored offset; partitions without any are left out."""
        lags = {partition: self._log.end(partition) - self._stored.get(partition, 0) for partition in self._positions}
        return {partition: lag for partition, lag in lags.items() if lag}

    # --- for intake -------------------------------------------------------------------------------------------------

    def incremental_assign(self, partitions: list[TopicPartition], /) -> None:
        for partition in partitions:
            self._positions[partition.topic, partition.partition] = max(partition.offset, 0)

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*partition) for partition in self._positions]

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:  # noqa: ARG002  Kafka's
        return [
            TopicPartition(one.topic, one.partition, self._stored.get((one.topic, one.partition), OFFSET_INVALID))
            for one in partitions
        ]

    def get_watermark_offsets(
        self,
        partition: TopicPartition,
        timeout: float = 0.0,  # noqa: ARG002  Kafka's
        *,
        cached: bool = False,  # noqa: ARG002  Kafka's
    ) -> tuple[int, int]:
        return (0, self._log.end((partition.topic, partition.partition)))

    def pause(self, partitions: Iterable[TopicPartition], /) -> None:
        self._paused.update((one.topic, one.partition) for one in partitions)

    def resume(self, partitions: Iterable[TopicPartition], /) -> None:
        self._paused.difference_update((one.topic, one.partition) for one in partitions)

    def seek(self, partition: TopicPartition, /) -> None:
        self._positions[partition.topic, partition.partition] = partition.offset

    def store_offsets(self, *, offsets: list[TopicPartition]) -> None:
        for one in offsets:
            self._stored[one.topic, one.partition] = one.offset
