"""The service inside the test's own process: the real app with its real middlewares, database and outbox, no broker.

Records go through FastStream's public `process_message`, in batches, as its consume loop would feed them; what the
outbox holds is written to topics in memory, marked sent and delivered to whoever reads them, until nothing is left.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from streams.app import compose
from streams.contract_kit.bank import ContractBank
from streams.contract_kit.memory_log import PARTITIONS, MemoryConsumer, MemoryLog
from streams.contract_kit.observed import Observed, without_prefix
from streams.contract_kit.records import Emitted
from streams.contract_kit.transport import NotSettled
from streams.middleware.in_memory import without_kafka
from streams.outbox.headers import unpack
from streams.outbox.store import mark_sent, unsent_rows
from streams.storage.database import Database
from streams.storage.migrate import prepare

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Table

    from streams.app import Payday
    from streams.contract_kit.records import Counts, ParkedRecord
    from streams.intake.subscription import Subscription
    from streams.settings import Settings

__all__ = ["MemoryTransport", "make_template"]

OUTBOX_ROWS = 2000
ATTEMPTS_MAX = 10
"""How often a reader may be given the same records without finishing any, before the test is told."""
ROUNDS_MAX = 1000
"""Bounds a service whose events cause each other without end."""


async def make_template(path: Path) -> None:
    """Make an SQLite file with all tables, for each test to have a copy of."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    try:
        await prepare(database)
    finally:
        await database.close()


class _Reader:
    """A subscription with its FastStream subscriber and a consumer of its own."""

    def __init__(self, subscriber: Any, subscription: Subscription, log: MemoryLog) -> None:
        self.subscription = subscription
        self.consumer = MemoryConsumer(log)
        self._subscriber = subscriber
        self._fruitless = 0

    async def join(self) -> None:
        """Be assigned every partition, in another thread as librdkafka would do it."""
        partitions = [
            TopicPartition(topic, number) for topic in self.subscription.topics for number in range(PARTITIONS)
        ]
        await asyncio.to_thread(self.subscription.assignment.on_assign, self.consumer, partitions)

    async def deliver(self) -> bool:
        """Hand over the next batch; whether there was one."""
        batch = self.consumer.poll(self.subscription.limits.max_records)
        if not batch:
            return False
        before = sum(self.consumer.unfinished().values())
        await self._subscriber.process_message(batch)
        finished = before > sum(self.consumer.unfinished().values())
        self._fruitless = 0 if finished else self._fruitless + 1
        if self._fruitless >= ATTEMPTS_MAX:
            raise NotSettled(f"{self.subscription.group} was given {batch[0].topic()} {ATTEMPTS_MAX} times in vain")
        return True


class MemoryTransport:
    """A `Transport` that keeps everything in this process. Made by `start`."""

    def __init__(self, payday: Payday, slices: Collection[str], topic_prefix: str, group_prefix: str) -> None:
        self._payday = payday
        self._reassigns = "tasks" in slices
        self._pays = "payouts" in slices
        self._topic_prefix = topic_prefix
        self._strip_topic = without_prefix(topic_prefix)
        self._strip_group = without_prefix(group_prefix)
        self._running = AsyncExitStack()
        self._log = MemoryLog()
        self._observed = Observed(payday.database, topic_prefix, group_prefix)
        self._emitted: list[Emitted] = []
        self._readers = [
            _Reader(subscriber, subscription, self._log)
            for subscriber in payday.broker.subscribers
            if (subscription := payday.intake.subscriptions.of(subscriber)) is not None
        ]

    @classmethod
    async def start(cls, settings: Settings, slices: Collection[str], template: Path) -> MemoryTransport:
        """Compose these slices on a copy of the template."""
        payday = compose(settings, only=slices, bank=ContractBank())
        assert payday.database.path is not None, "memory mode works on an SQLite file"
        await asyncio.to_thread(shutil.copyfile, template, payday.database.path)
        transport = cls(payday, slices, settings.topic_prefix, settings.group_prefix)
        await payday.intake.start()
        await transport._running.enter_async_context(without_kafka(payday.broker))
        for reader in transport._readers:
            await reader.join()
        return transport

    async def send(self, records: Sequence[Emitted]) -> None:
        """Append to the topics in memory."""
        for record in records:
            self._log.append(self._topic_prefix + record.topic, record.key, record.value, list(record.headers))

    async def settle(self) -> None:
        """Deliver, carry out and publish until nobody has anything left to read."""
        for _ in range(ROUNDS_MAX):
            if not await self._deliver():
                break
            if self._reassigns:
                await self._payday.reassigner.run_until_idle()
            if self._pays:
                await self._payday.payouts.run_until_idle()
            await self._publish()
        else:
            raise NotSettled(f"events go on causing each other after {ROUNDS_MAX} rounds")
        for reader in self._readers:
            if unfinished := reader.consumer.unfinished():
                why = "is paused" if reader.subscription.assignment.paused else "has not finished what it read"
                raise NotSettled(f"{reader.subscription.group} {why}: {unfinished} records are left")

    async def _deliver(self) -> bool:
        """Let every reader read to the end; whether there was anything to read."""
        delivered = False
        for reader in self._readers:
            while await reader.deliver():
                delivered = True
        return delivered

    async def _publish(self) -> None:
        """Do the relay's work: publish what is unsent and mark it sent."""
        while True:
            async with self._payday.database.read() as connection:
                rows = await unsent_rows(connection, OUTBOX_ROWS)
            if not rows:
                return
            for row in rows:
                headers = unpack(row.headers)
                self._log.append(row.topic, row.key, row.value, headers)
                self._emitted.append(Emitted(self._strip_topic(row.topic), row.key, row.value, headers))
            async with self._payday.database.write() as connection:
                await mark_sent(connection, [row.id for row in rows], time.time_ns() // 1_000_000)
            if len(rows) < OUTBOX_ROWS:
                return

    async def emitted(self) -> Sequence[Emitted]:
        """What was published since the last time."""
        emitted, self._emitted = self._emitted, []
        return emitted

    async def parked(self) -> Sequence[ParkedRecord]:
        """As the database has them."""
        return await self._observed.parked()

    async def counts(self) -> Mapping[str, Counts]:
        """As the database has them."""
        return await self._observed.counts()

    def readers(self, topic: str) -> Sequence[str]:
        """The groups of the slices that were composed."""
        full_name = self._topic_prefix + topic
        return [
            self._strip_group(reader.subscription.group)
            for reader in self._readers
            if full_name in reader.subscription.topics
        ]

    async def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Straight into the database."""
        await self._observed.write_rows(table, rows)

    async def close(self) -> None:
        """Close in the order in which the app does."""
        await self._running.aclose()
        await self._payday.intake.stop()
        await self._payday.database.close()
