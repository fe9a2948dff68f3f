"""(b) The same work as it is usually written by hand: FastStream subscribers, one transaction per message.

Each message: a transaction with the inbox check, the state change, the ledger; after its commit each event is published
and awaited, then the offset is committed. Tables, rows, engine settings and contracts are Payday's, so that nothing but
the way of working differs. (It is weaker: a crash between commit and publish loses events. There is no outbox.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

from faststream import AckPolicy
from faststream.confluent import KafkaBroker
from faststream.confluent.annotations import KafkaMessage
from sqlalchemy import insert, select

from benchmarks import by_hand_handlers as handlers
from benchmarks.by_hand_handlers import Published
from benchmarks.contestant import Assignment, read_assignment, report_ready, report_settled
from benchmarks.workload import EVENTS_PER_TASK, FETCH_WAIT_MAX_MS, WORKERS
from contracts.catalog import entry_of
from contracts.message import Message
from contracts.tasks import CreateTask, TaskAssigned, TaskCreated
from contracts.workers import WorkerRegistered
from streams.app import ALL_METADATA
from streams.intake.tables import inbox
from streams.ledger.tables import accounting_worker
from streams.outbox.envelope import derived_id, format_time, parse_time
from streams.storage.database import Database
from streams.tasks.tables import tasks_worker


class ByHand:
    """A database, a broker, and how far the work is."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.database = Database(assignment.url)
        logger = logging.getLogger("by-hand")
        self.broker = KafkaBroker(
            assignment.bootstrap_servers,
            allow_auto_create_topics=False,
            config=cast("Any", {"fetch.wait.max.ms": FETCH_WAIT_MAX_MS}),
            logger=logger,
            log_level=logging.DEBUG,
        )
        self.workers_seen = 0
        self.workers_known = asyncio.Event()
        self.first_at: float | None = None
        self.published = 0
        self.done = asyncio.Event()

    def worker_seen(self) -> None:
        """Count a worker in one of the groups."""
        self.workers_seen += 1
        if self.workers_seen == 2 * WORKERS:
            self.workers_known.set()

    async def once(self, group: str, message: KafkaMessage, handle: Any) -> None:
        """Run a handler in a transaction unless the message was handled before, then publish its events."""
        headers = message.headers
        if self.first_at is None and "task" in headers["ce_type"]:
            self.first_at = time.monotonic()
        events: Published = []
        async with self.database.write() as connection:
            known = select(inbox.c.message_id).where(
                inbox.c.group_name == group,
                inbox.c.source == headers["ce_source"],
                inbox.c.message_id == headers["ce_id"],
            )
            if (await connection.execute(known)).first() is None:
                events = await handle(connection)
                await connection.execute(
                    insert(inbox).values(
                        group_name=group,
                        source=headers["ce_source"],
                        message_id=headers["ce_id"],
                        type=headers["ce_type"],
                        body_hash=b"",
                        recorded_at_ms=time.time_ns() // 1_000_000,
                    )
                )
        for index, event in enumerate(events):
            await self.publish(event, headers, index)
        await message.ack()

    async def publish(self, event: Message, cause: dict[str, str], index: int) -> None:
        """Publish and wait for the acknowledgement."""
        entry = entry_of(event)
        source = entry.source or ""
        time_ms = parse_time(cause["ce_time"])
        await self.broker.publish(
            event.encode(),
            self.assignment.prefix + entry.topic,
            key=entry.key(event).encode() if entry.key else None,
            headers={
                "ce_specversion": "1.0",
                "ce_id": derived_id(time_ms, cause["ce_source"], cause["ce_id"], f"{source}/{index}"),
                "ce_type": entry.type_name,
                "ce_source": source,
                "ce_time": format_time(time_ms),
                "content-type": "application/json",
                "ce_correlationid": cause.get("ce_correlationid", cause["ce_id"]),
                "ce_causationid": cause["ce_id"],
            },
        )
        self.published += 1
        if self.published == self.assignment.tasks * EVENTS_PER_TASK:
            self.done.set()


def build(work: ByHand) -> None:
    """Subscribe the handlers of both slices."""
    options: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "ack_policy": AckPolicy.MANUAL,
        "polling_interval": 0.01,
    }

    def subscriber(group: str, *topics: str) -> Any:
        prefix = work.assignment.prefix
        return work.broker.subscriber(*(prefix + topic for topic in topics), group_id=prefix + group, **options)

    tasks = subscriber("tasks", "workers.events", "tasks.commands")
    accounting = subscriber("accounting", "workers.events", "tasks.events")

    @tasks  # type: ignore[untyped-decorator]  # FastStream's
    async def on_task_message(message: KafkaMessage) -> None:
        """Decide by the type in the headers."""
        type_name = message.headers["ce_type"]
        handle: Any
        if type_name == WorkerRegistered.type_name:
            work.worker_seen()
            handle = handlers.register(tasks_worker, message)
        elif type_name == CreateTask.type_name:
            handle = handlers.create(message)
        else:
            handle = handlers.complete(message)
        await work.once("tasks", message, handle)

    @accounting  # type: ignore[untyped-decorator]  # FastStream's
    async def on_accounting_message(message: KafkaMessage) -> None:
        """Decide by the type in the headers."""
        type_name = message.headers["ce_type"]
        handle: Any
        if type_name == WorkerRegistered.type_name:
            work.worker_seen()
            handle = handlers.register(accounting_worker, message)
        elif type_name == TaskCreated.type_name:
            handle = handlers.price(message)
        elif type_name == TaskAssigned.type_name:
            handle = handlers.charge(message)
        else:
            handle = handlers.reward(message)
        await work.once("accounting", message, handle)


async def run(assignment: Assignment) -> None:
    """Do the work."""
    work = ByHand(assignment)
    build(work)
    if assignment.database_url is None:
        async with work.database.write() as connection:
            for metadata in ALL_METADATA:
                await connection.run_sync(metadata.create_all)
    await work.broker.start()
    await work.workers_known.wait()
    report_ready()
    await work.done.wait()
    assert work.first_at is not None
    report_settled(work.first_at)
    await work.broker.stop()
    await work.database.close()


if __name__ == "__main__":
    asyncio.run(run(read_assignment()))
