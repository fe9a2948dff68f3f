"""The partitions that this consumer owns; the one place that moves, stores and pauses their positions.

Invariant: a position is only ever stored for what a committed transaction finished, and every partition that is
assigned is explicitly either paused or resumed (librdkafka keeps a partition's pause flag across a revocation).

The rebalance callbacks run in the consumer's own thread, inside its poll; everything else runs on the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
from confluent_kafka import KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from streams.intake.position import Position
    from streams.intake.record import PartitionKey

__all__ = ["Assignment", "KafkaConsumer"]

log = structlog.get_logger(__name__)
T = TypeVar("T")

POSITIONS_TIMEOUT_SECONDS = 5.0
COMMITTED_TIMEOUT_SECONDS = 5.0
WATERMARK_TIMEOUT_SECONDS = 5.0


class KafkaConsumer(Protocol):
    """What is used of a `confluent_kafka.Consumer`."""

    def incremental_assign(self, partitions: list[TopicPartition], /) -> None: ...
    def assignment(self) -> list[TopicPartition]: ...
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...
    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = ..., *, cached: bool = ...
    ) -> tuple[int, int] | None: ...
    def pause(self, partitions: list[TopicPartition], /) -> None: ...
    def resume(self, partitions: list[TopicPartition], /) -> None: ...
    def seek(self, partition: TopicPartition, /) -> None: ...
    def store_offsets(self, *, offsets: list[TopicPartition]) -> None: ...


class Assignment:
    """A consumer's partitions.

    Args:
        load_positions: reads the group's progress for some partitions.
        on_change: called in the consumer's thread with the partitions that came or went, so that nothing remembered
            about them outlives a change of owner.
        give_back: says in the database that partitions are left in good order.
    """

    def __init__(
        self,
        load_positions: Callable[[list[PartitionKey]], Awaitable[Mapping[PartitionKey, Position]]],
        on_change: Callable[[list[PartitionKey]], None],
        give_back: Callable[[list[PartitionKey]], Awaitable[None]] | None = None,
    ) -> None:
        self._give_back = give_back
        self._load_positions = load_positions
        self._on_change = on_change
        self._loop: asyncio.AbstractEventLoop | None = None
        self._consumer: KafkaConsumer | None = None
        self._unverified: set[PartitionKey] = set()
        self._full: set[PartitionKey] = set()
        self._flag = threading.Lock()
        """The flag and librdkafka's own change together, also while the consumer's thread assigns partitions."""
        self.paused = False
        self.joined = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop on which the database is read."""
        self._loop = loop

    # --- rebalance callbacks, in the consumer's thread ------------------------------------------------------------

    def on_assign(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Take partitions over from where both Kafka and the database say that everything before is finished."""
        self._consumer = consumer
        keys = [(partition.topic, partition.partition) for partition in partitions]
        self._on_change(keys)
        self._full.difference_update(keys)
        self._unverified.update(keys)
        if partitions:
            for key, offset in self._earlier_starts(consumer, partitions).items():
                next(p for p in partitions if (p.topic, p.partition) == key).offset = offset
            consumer.incremental_assign(partitions)  # the subscriber's options fix cooperative-sticky
            with self._flag:
                (consumer.pause if self.paused else consumer.resume)(partitions)
        self.joined = True
        log.info("partitions assigned", partitions=[f"{topic}[{partition}]" for topic, partition in keys])

    def on_revoke(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Forget partitions that another consumer takes over, and say that they are left in good order."""
        self.on_lost(consumer, partitions)
        keys = [(partition.topic, partition.partition) for partition in partitions]
        if self._give_back is None or self._loop is None or not keys or _is_running_here(self._loop):
            return
        giving = asyncio.run_coroutine_threadsafe(_gathered(self._give_back(keys)), self._loop)
        try:
            giving.result(POSITIONS_TIMEOUT_SECONDS)
        except Exception as error:  # then the next owner is suspicious for nothing
            log.warning("partitions could not be given back in good order", error=str(error))

    def on_lost(self, _consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Forget partitions that were taken away: somebody else may be handling them already."""
        keys = [(partition.topic, partition.partition) for partition in partitions]
        self._on_change(keys)
        self._unverified.difference_update(keys)

    def _earlier_starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[PartitionKey, int]:
        """Where the database is behind Kafka's committed offset: it was restored to an earlier state.

        Partitions whose progress cannot be read now stay unverified and are looked at again before they are resumed.
        """
        assert self._loop is not None, "attach() comes before the first assignment"
        keys = [(partition.topic, partition.partition) for partition in partitions]
        try:
            reading = asyncio.run_coroutine_threadsafe(_gathered(self._load_positions(keys)), self._loop)
            positions = reading.result(POSITIONS_TIMEOUT_SECONDS)
            committed = consumer.committed(
                [TopicPartition(topic, number) for topic, number in keys], timeout=COMMITTED_TIMEOUT_SECONDS
            )
        except Exception as error:  # whatever it is, starting at the committed offset loses nothing: gaps are seen
            log.warning("progress could not be compared with the committed offsets", error=str(error))
            return {}
        self._unverified.difference_update(keys)
        return _behind(positions, committed)

    # --- on the event loop ------------------------------------------------------------------------------------------

    async def verify(self) -> None:
        """Catch up on the comparison that could not be made when the partitions were assigned."""
        consumer = self._consumer
        keys = sorted(self._unverified)
        if consumer is None or not keys:
            return
        positions = await self._load_positions(keys)
        partitions = [TopicPartition(topic, number) for topic, number in keys]
        committed = await asyncio.to_thread(consumer.committed, partitions, COMMITTED_TIMEOUT_SECONDS)
        self.seek(_behind(positions, committed))
        self._unverified.difference_update(keys)

    async def low_watermark(self, key: PartitionKey) -> int:
        """The first offset that the partition still holds."""
        assert self._consumer is not None, "records come from an assigned consumer"
        watermarks = await asyncio.to_thread(
            self._consumer.get_watermark_offsets, TopicPartition(*key), WATERMARK_TIMEOUT_SECONDS
        )
        if watermarks is None:
            raise TimeoutError(f"Kafka did not say within {WATERMARK_TIMEOUT_SECONDS:g} s where {key} begins")
        return watermarks[0]

    def known_end(self, key: PartitionKey) -> int | None:
        """Where the partition ended when records were last fetched, without asking anybody; None if not known."""
        if self._consumer is None:
            return None
        try:
            watermarks = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
        except (KafkaException, RuntimeError):  # closed meanwhile
            return None
        return watermarks[1] if watermarks is not None and watermarks[1] >= 0 else None

    def seek(self, offsets: Mapping[PartitionKey, int]) -> None:
        """Go back (or on) so that these are the next offsets to be read."""
        if self._consumer is None:
            return
        for (topic, number), offset in offsets.items():
            self._tolerant("seek", self._consumer.seek, TopicPartition(topic, number, offset))

    def store(self, offsets: Mapping[PartitionKey, int]) -> None:
        """Let these be committed by the consumer's next automatic commit: everything below them is finished."""
        if not offsets or self._consumer is None:
            return
        consumer = self._consumer
        for (topic, number), offset in offsets.items():
            partition = TopicPartition(topic, number, offset)
            self._tolerant("store", lambda one: consumer.store_offsets(offsets=[one]), partition)

    def pause(self) -> None:
        """Stop fetching while staying in the group."""
        with self._flag:
            self.paused = True
            if self._consumer is not None:
                self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again."""
        with self._flag:
            if self._consumer is not None:
                everything = self._consumer.assignment()
                self._consumer.resume([one for one in everything if (one.topic, one.partition) not in self._full])
            self.paused = False

    def pause_partition(self, key: PartitionKey) -> None:
        """Stop fetching one partition; `resume` leaves it alone."""
        with self._flag:
            self._full.add(key)
            if self._consumer is not None:
                self._tolerant("pause", lambda one: self._set_paused([one], paused=True), TopicPartition(*key))

    def resume_partition(self, key: PartitionKey) -> None:
        """Fetch it again, unless everything is paused."""
        with self._flag:
            if key in self._full:
                self._full.remove(key)
                if not self.paused:
                    self._tolerant("resume", lambda one: self._set_paused([one], paused=False), TopicPartition(*key))

    def _set_paused(self, partitions: list[TopicPartition], *, paused: bool) -> None:
        if self._consumer is not None:
            (self._consumer.pause if paused else self._consumer.resume)(partitions)

    @staticmethod
    def _tolerant(what: str, action: Callable[[TopicPartition], Any], partition: TopicPartition) -> None:
        """A partition that was revoked meanwhile is its new owner's business: there is nothing to give back."""
        try:
            action(partition)
        except KafkaException as error:
            log.info("partition is no longer assigned", action=what, partition=str(partition), error=str(error))


async def _gathered(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the loop's own thread, which must not wait for itself."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _behind(positions: Mapping[PartitionKey, Position], committed: list[TopicPartition]) -> dict[PartitionKey, int]:
    earlier = {}
    for partition in committed:
        key = (partition.topic, partition.partition)
        next_offset = positions[key].next_offset
        if next_offset is not None and partition.offset > next_offset:
            earlier[key] = next_offset
            log.warning(
                "the database is behind Kafka's committed offset and was probably restored; reading again from there",
                partition=f"{partition.topic}[{partition.partition}]",
                committed=partition.offset,
                starting_at=next_offset,
            )
    return earlier
