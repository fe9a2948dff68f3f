"""What one consumer group reads, how it treats it, and what this process remembers of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from confluent_kafka import KafkaException

from streams.intake import suspects
from streams.intake.assignment import Assignment
from streams.intake.classify import Dependency, Fenced, KillSwitchTripped, Outage, check_classifiers
from streams.intake.kill_switch import KillSwitch, KillSwitchLimits
from streams.intake.parking import count_held, store_size
from streams.intake.pausing import Pausing
from streams.intake.position import load_positions
from streams.intake.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.classify import Classifiers
    from streams.intake.position import Position
    from streams.intake.record import PartitionKey, Record
    from streams.outbox.envelope import MessageCatalog
    from streams.storage.database import Database

__all__ = ["Full", "Limits", "Subscription"]

log = structlog.get_logger(__name__)

GIVE_BACK_SECONDS = 2.0
"""It happens while the group waits for this consumer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far intake goes before it gives up, waits or pauses.

    Attributes:
        max_records: records in one batch, and so in one transaction.
        poll_seconds: how long a poll waits for a batch to fill; part of every message's latency.
        contention_budget_seconds: how long one transaction is redone because somebody else was faster.
        redo_budget_seconds: how long one delivery is redone in halves after its save failed; what is not finished by
            then is read again. Keep it well below the consumer's `max.poll.interval.ms`.
        outage_first_wait_seconds, outage_max_wait_seconds: between two looks at whether an outage is over.
        commit_interval_ms: between automatic commits of stored offsets; bounds what is read again after a kill.
        crash_limit: a record that has killed the process so often while it was handled alone is set aside.
        kill_switch: when many failures are one.
    """

    max_records: int = 500
    poll_seconds: float = 0.01
    contention_budget_seconds: float = 5.0
    redo_budget_seconds: float = 20.0
    outage_first_wait_seconds: float = 0.2
    outage_max_wait_seconds: float = 2.0
    commit_interval_ms: int = 1000
    crash_limit: int = 3
    kill_switch: KillSwitchLimits = field(default_factory=KillSwitchLimits)


def _always() -> None:
    """Every delivery is welcome."""


class Full(Exception):
    """There is no room for more parked records yet."""


class Subscription:
    """A group's reading of some topics by this process.

    Args:
        group: full name of the consumer group.
        topics: full names of what it reads.
        accepts: the type names that its handler takes; other catalogued types count as handled.
        catalog: reads and describes messages.
        database: where everything is written down.
        unheld_topics: topics whose records do not wait for an earlier one of their key, full names.
        topic_prefix: stands before the topics of emitted events.
        wake_relay: called after a commit that left something in the outbox.
        limits: see `Limits`.
        retries: see `Retries`.
        classifiers: what the exceptions of its handler mean, see `classify`.
        holder: names this process among those that share the database.

    Attributes:
        batch: whether its handler takes several records at a time.
        admit: asked before each delivery; raises `Outage` while none is to be taken.
        released: how many parked records have been tried here.
        release_wanted: set when something was parked that may be due soon.
    """

    def __init__(
        self,
        *,
        group: str,
        topics: Sequence[str],
        accepts: Iterable[str],
        catalog: MessageCatalog,
        database: Database,
        wake_relay: Callable[[], None],
        unheld_topics: Iterable[str] = (),
        topic_prefix: str = "",
        limits: Limits | None = None,
        retries: Retries | None = None,
        classifiers: Classifiers | None = None,
        holder: str | None = None,
    ) -> None:
        self.group = group
        self.topics = tuple(topics)
        self.accepts = frozenset(accepts)
        self.catalog = catalog
        self.database = database
        self.wake_relay = wake_relay
        self.topic_prefix = topic_prefix
        self.limits = limits or Limits()
        self.retries = retries or Retries()
        self.batch = True
        self.admit: Callable[[], None] = _always
        self.release_wanted = asyncio.Event()
        self.released = 0
        self.classifiers = classifiers or {}
        check_classifiers(self.classifiers)
        self.holder = holder or str(uuid4())
        self.assignment = Assignment(self._read_positions, self._forget, self.give_back)
        self.kill_switch = KillSwitch(self.limits.kill_switch)
        self.pausing = Pausing(self.group, self.holder, database, self.assignment, self.limits)
        self._unheld_topics = frozenset(unheld_topics)
        self._known: dict[PartitionKey, Position] = {}
        self._rewinds: dict[PartitionKey, int] = {}
        self._sought: dict[PartitionKey, int] = {}
        self._owned: set[PartitionKey] = set()
        self._suspects: dict[PartitionKey, int] = {}

    def holds_keys(self, topic: str) -> bool:
        """Whether a parked record of this topic keeps the later ones of its key waiting."""
        return topic not in self._unheld_topics

    # --- progress, as this process knows it ---------------------------------------------------------------------

    async def positions_for(
        self, connection: AsyncConnection, records: Iterable[Record]
    ) -> Mapping[PartitionKey, Position]:
        """The known position of every partition among the records, read where it is not known yet."""
        unknown = {record.partition_key for record in records} - self._known.keys()
        if unknown:
            self._known.update(await load_positions(connection, self.group, unknown))
        return self._known

    def known(self, key: PartitionKey) -> Position:
        """The position of a partition whose records are being handled.

        Raises:
            Fenced: the partition was revoked meanwhile.
        """
        position = self._known.get(key)
        if position is None:
            raise Fenced(f"{self.group} {key[0]}[{key[1]}] was revoked while its records were being handled")
        return position

    def remember(self, moved: Mapping[PartitionKey, Position]) -> None:
        """Take over positions that have been committed, unless the partition was revoked meanwhile."""
        for key, position in moved.items():
            if key in self._known:
                self._known[key] = position

    def forget_all(self) -> None:
        """Read every position anew, after another consumer proved to be the owner."""
        self._known.clear()

    def _forget(self, keys: list[PartitionKey]) -> None:
        for key in keys:
            self._known.pop(key, None)
            self._rewinds.pop(key, None)
            self._sought.pop(key, None)
            self._suspects.pop(key, None)
            self._owned.discard(key)

    async def _read_positions(self, keys: list[PartitionKey]) -> Mapping[PartitionKey, Position]:
        async with self.database.read() as connection:
            return await load_positions(connection, self.group, keys)

    def lag(self) -> dict[str, int]:
        """Records of the partitions of this process that are still to be read, by topic, as far as it is known."""
        lags = dict.fromkeys(self.topics, 0)
        for (topic, partition), position in list(self._known.items()):
            end = self.assignment.known_end((topic, partition))
            if end is not None and position.next_offset is not None:
                lags[topic] = lags.get(topic, 0) + max(0, end - position.next_offset)
        return lags

    # --- who died here --------------------------------------------------------------------------------------------

    async def take_over(self, partitions: set[PartitionKey]) -> None:
        """Write down that this process handles these partitions, unless it has said so since they were assigned."""
        new = partitions - self._owned
        if not new:
            return
        async with self.database.write() as connection:
            left = await suspects.take_over(connection, self.group, new, self.holder)
        self._owned |= new
        for key in left:
            self._suspects[key] = self.limits.max_records
        if left:
            log.warning(
                "the last owner of these partitions died; their next records are handled singly",
                group=self.group,
                partitions=sorted(f"{topic}[{partition}]" for topic, partition in left),
            )

    def is_suspect(self, record: Record) -> bool:
        """Whether a record may have killed the last owner of its partition."""
        return self._suspects.get(record.partition_key, 0) > 0

    def cleared(self, record: Record) -> None:
        """A suspect was handled, or set aside, and the process lives."""
        key = record.partition_key
        if self._suspects.get(key, 0) > 0:
            self._suspects[key] -= 1

    async def give_back(self, partitions: Iterable[PartitionKey] | None = None) -> None:
        """Say that nothing of these partitions, or of any, is being handled here any more.

        A database that is away makes the next owner suspicious for nothing; that costs time and harms no record.
        """
        keys = self._owned if partitions is None else set(partitions)
        if not keys:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS), self.database.write() as connection:
                await suspects.give_back(connection, self.group, self.holder, keys)
        except Exception as error:  # see above
            log.warning("partitions could not be given back in good order", group=self.group, error=str(error))
        self._owned = self._owned - keys

    # --- gaps ---------------------------------------------------------------------------------------------------

    async def check_gaps(
        self, records: Sequence[Record], positions: Mapping[PartitionKey, Position]
    ) -> tuple[list[Record], dict[PartitionKey, tuple[int, int]]]:
        """Leave out what comes after an unexplained gap, and ask for it to be read again, once.

        Returns:
            The records that may be taken, and per partition how many before them retention removed unread (`lost`)
            and how many are missing for no known reason (`skipped`).
        """
        expected = {key: position.next_offset for key, position in positions.items()}
        accepted: list[Record] = []
        missing: dict[PartitionKey, tuple[int, int]] = {}
        stopped: set[PartitionKey] = set()
        for record in records:
            key = record.partition_key
            if key in stopped or key in self._rewinds:  # asked for in this delivery: nothing behind it is taken
                continue
            start = expected[key]
            if start is not None and record.offset > start:
                low = await self._low_watermark(key)
                if low < record.offset and self._sought.get(key) != start:
                    self._rewinds[key] = start
                    stopped.add(key)
                    log.warning("records are missing; reading again", partition=key, expected=start, got=record.offset)
                    continue
                lost = max(0, min(low, record.offset) - start)
                skipped = record.offset - start - lost
                before = missing.get(key, (0, 0))
                missing[key] = (before[0] + lost, before[1] + skipped)
                log.error(
                    "records are gone",
                    group=self.group,
                    partition=key,
                    lost=lost,
                    skipped=skipped,
                    first=start,
                )
            expected[key] = record.offset + 1
            accepted.append(record)
        return accepted, missing

    async def _low_watermark(self, key: PartitionKey) -> int:
        """Where a partition begins. Kafka not saying so is an outage, no fault of the records behind the gap."""
        try:
            return await self.assignment.low_watermark(key)
        except (KafkaException, TimeoutError) as error:
            raise Outage(f"Kafka does not say where {key[0]}[{key[1]}] begins: {error}") from error

    def take_rewinds(self) -> dict[PartitionKey, int]:
        """Where to read again because of a gap. From then on the gap counts as looked at once."""
        rewinds, self._rewinds = self._rewinds, {}
        self._sought.update(rewinds)
        return rewinds

    # --- outages ------------------------------------------------------------------------------------------------

    def pause(self, error: Exception) -> None:
        """Stop reading, stay in the group, and go on by itself once what is away answers."""
        match error:
            case KillSwitchTripped():
                self.kill_switch.trip(str(error))
                self.pausing.kill_switch(str(error))
            case Outage(dependency=Dependency() as dependency):
                self.pausing.outage(f"{dependency.name} is away: {error}", dependency.probe, dependency.name)
            case _:
                self.pausing.outage(str(error))

    def pause_partition(self, key: PartitionKey, queue: tuple[str, bytes]) -> None:
        """Stop reading a partition because too many records of a key are parked, until a tenth of them is gone."""
        most = self.retries.key_max_records
        room_at = most - max(1, most // 10)

        async def has_room() -> None:
            async with self.database.read() as connection:
                parked = (await count_held(connection, self.group, {queue})).get(queue, 0)
            if parked > room_at:
                raise Full(f"{parked} records of the key are parked")

        reason = f"{most} records of the key {queue[1][:60]!r} are parked"
        self.pausing.key_full(*key, reason, has_room)

    async def check_store(self) -> None:
        """Pause where too much is parked, until a tenth of it is gone."""
        retries = self.retries
        async with self.database.read() as connection:
            records, size_bytes = await store_size(connection, self.group, self.topics)
        if records < retries.store_max_records and size_bytes < retries.store_max_bytes:
            return

        async def has_room() -> None:
            async with self.database.read() as connection:
                records, size_bytes = await store_size(connection, self.group, self.topics)
            if records > 0.9 * retries.store_max_records or size_bytes > 0.9 * retries.store_max_bytes:
                raise Full(f"{records} records are parked")

        self.pausing.store_full(f"{records} records, {size_bytes} bytes are parked", has_room)

    async def close(self) -> None:
        """Stop waiting for the end of pauses, and give back what was not given back yet."""
        await self.pausing.close()
        await self.give_back()
