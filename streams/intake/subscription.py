"""What one consumer group reads, how it treats it, and what this process remembers of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException

from streams.intake.assignment import Assignment
from streams.intake.classify import Fenced, Outage
from streams.intake.position import load_positions
from streams.intake.retries import Retries
from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.position import Position
    from streams.intake.record import PartitionKey, Record
    from streams.outbox.envelope import MessageCatalog
    from streams.storage.database import Database

__all__ = ["Limits", "Subscription"]

log = structlog.get_logger(__name__)


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
    """

    max_records: int = 500
    poll_seconds: float = 0.01
    contention_budget_seconds: float = 5.0
    redo_budget_seconds: float = 20.0
    outage_first_wait_seconds: float = 0.2
    outage_max_wait_seconds: float = 2.0
    commit_interval_ms: int = 1000


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

    Attributes:
        batch: whether its handler takes several records at a time.
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
        self.release_wanted = asyncio.Event()
        self.released = 0
        self.assignment = Assignment(self._read_positions, self._forget)
        self._unheld_topics = frozenset(unheld_topics)
        self._known: dict[PartitionKey, Position] = {}
        self._rewinds: dict[PartitionKey, int] = {}
        self._sought: dict[PartitionKey, int] = {}
        self._resuming: asyncio.Task[None] | None = None

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

    def pause(self, reason: str) -> None:
        """Stop reading, stay in the group, and go on by itself once the database answers."""
        self.assignment.pause()
        if self._resuming is None or self._resuming.done():
            log.warning("intake paused", group=self.group, reason=reason)
            self._resuming = asyncio.get_running_loop().create_task(self._resume_when_answered())

    async def _resume_when_answered(self) -> None:
        backoff = Backoff(self.limits.outage_first_wait_seconds, self.limits.outage_max_wait_seconds)
        while True:
            await asyncio.sleep(backoff.next_seconds())
            try:
                await self.database.probe_write()
                await self.assignment.verify()
                self.assignment.resume()
            except Exception as error:  # any reason not to go on is a reason to wait
                log.debug("still paused", group=self.group, error=str(error))
                continue
            log.warning("intake resumed", group=self.group)
            return

    async def close(self) -> None:
        """Stop waiting for the end of an outage."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
