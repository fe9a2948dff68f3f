"""(b) The same work as it is usually written by hand: FastStream subscribers, one transaction per message.

Each message: a transaction with the inbox check, the state change, the ledger; after its commit each event is published
and awaited, then the offset is committed. Tables, rows, engine settings and contracts are Payday's, so that nothing but
the way of working differs. (It is weaker: a crash between commit and publish loses events. There is no outbox.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, date, datetime
from typing import Any

from faststream import AckPolicy
from faststream.confluent import KafkaBroker
from faststream.confluent.annotations import KafkaMessage
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.contestant import Assignment, read_assignment, report_ready, report_settled
from benchmarks.workload import BUSINESS_DATE, EVENTS_PER_TASK, SECRET, WORKERS
from contracts.accounting import TaskPriced, TransactionApplied
from contracts.catalog import entry_of
from contracts.message import Message
from contracts.tasks import CompleteTask, CreateTask, TaskAssigned, TaskCompleted, TaskCreated
from contracts.workers import WorkerRegistered
from streams.accounting.domain import price_of
from streams.accounting.tables import accounting_price, accounting_worker
from streams.app import ALL_METADATA
from streams.intake.tables import inbox
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.outbox.envelope import derived_id, format_time, parse_time
from streams.storage.database import Database
from streams.tasks.domain import assignee_for
from streams.tasks.tables import tasks_assignment, tasks_task, tasks_worker

Published = list[Message]


class ByHand:
    """A database, a broker, and how far the work is."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.database = Database(f"sqlite+aiosqlite:///{assignment.database}")
        logger = logging.getLogger("by-hand")
        self.broker = KafkaBroker(
            assignment.bootstrap_servers,
            allow_auto_create_topics=False,
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
            entry.topic,
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
    tasks = work.broker.subscriber("workers.events", "tasks.commands", group_id="tasks", **options)
    accounting = work.broker.subscriber("workers.events", "tasks.events", group_id="accounting", **options)

    @tasks  # type: ignore[untyped-decorator]  # FastStream's
    async def on_task_message(message: KafkaMessage) -> None:
        """Decide by the type in the headers."""
        type_name = message.headers["ce_type"]
        handle: Any
        if type_name == WorkerRegistered.type_name:
            work.worker_seen()
            handle = _register(tasks_worker, message)
        elif type_name == CreateTask.type_name:
            handle = _create(message)
        else:
            handle = _complete(message)
        await work.once("tasks", message, handle)

    @accounting  # type: ignore[untyped-decorator]  # FastStream's
    async def on_accounting_message(message: KafkaMessage) -> None:
        """Decide by the type in the headers."""
        type_name = message.headers["ce_type"]
        handle: Any
        if type_name == WorkerRegistered.type_name:
            work.worker_seen()
            handle = _register(accounting_worker, message)
        elif type_name == TaskCreated.type_name:
            handle = _price(message)
        elif type_name == TaskAssigned.type_name:
            handle = _charge(message)
        else:
            handle = _reward(message)
        await work.once("accounting", message, handle)


def _register(table: Any, message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        worker = WorkerRegistered.decode(message.body)
        await connection.execute(insert(table).values(worker_id=worker.worker_id, role=worker.role, active=True))
        return []

    return handle


def _create(message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        command, headers = CreateTask.decode(message.body), message.headers
        time_ms = parse_time(headers["ce_time"])
        rows = await connection.execute(
            select(tasks_worker.c.worker_id).where(tasks_worker.c.active, tasks_worker.c.role == "worker")
        )
        workers = sorted(row[0] for row in rows)
        assignment_id = derived_id(time_ms, headers["ce_source"], headers["ce_id"], f"assignment/{command.task_id}")
        worker_id = assignee_for(SECRET, assignment_id, workers)
        await connection.execute(
            insert(tasks_task).values(
                task_id=command.task_id, title=command.title, assignee=worker_id, created_at_ms=time_ms
            )
        )
        await connection.execute(
            insert(tasks_assignment).values(
                assignment_id=assignment_id,
                task_id=command.task_id,
                worker_id=worker_id,
                reason="created",
                assigned_at_ms=time_ms,
            )
        )
        return [
            TaskCreated(task_id=command.task_id, title=command.title),
            TaskAssigned(task_id=command.task_id, assignment_id=assignment_id, worker_id=worker_id, reason="created"),
        ]

    return handle


def _complete(message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        command = CompleteTask.decode(message.body)
        time_ms = parse_time(message.headers["ce_time"])
        task = (await connection.execute(select(tasks_task).where(tasks_task.c.task_id == command.task_id))).one()
        assert task.completed_at_ms is None
        assert task.assignee == command.worker_id
        await connection.execute(
            update(tasks_task).where(tasks_task.c.number == task.number).values(completed_at_ms=time_ms)
        )
        completed_at = datetime.fromtimestamp(time_ms / 1000, UTC)
        return [TaskCompleted(task_id=command.task_id, worker_id=command.worker_id, completed_at=completed_at)]

    return handle


def _price(message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        event = TaskCreated.decode(message.body)
        time_ms = parse_time(message.headers["ce_time"])
        price = price_of(SECRET, event.task_id, time_ms)
        await connection.execute(
            insert(accounting_price).values(
                task_id=event.task_id,
                fee_minor=price.fee_minor,
                reward_minor=price.reward_minor,
                priced_at_ms=time_ms,
            )
        )
        return [
            TaskPriced(
                task_id=event.task_id, fee_minor=price.fee_minor, reward_minor=price.reward_minor, currency="USD"
            )
        ]

    return handle


def _charge(message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        event = TaskAssigned.decode(message.body)
        prices = select(accounting_price.c.fee_minor).where(accounting_price.c.task_id == event.task_id)
        fee_minor = (await connection.execute(prices)).scalar_one()
        ref = f"fee:{event.assignment_id}"
        return [await _post(connection, message, event.worker_id, "fee", -fee_minor, ref, event.task_id)]

    return handle


def _reward(message: KafkaMessage) -> Any:
    async def handle(connection: AsyncConnection) -> Published:
        event = TaskCompleted.decode(message.body)
        prices = select(accounting_price.c.reward_minor).where(accounting_price.c.task_id == event.task_id)
        reward_minor = (await connection.execute(prices)).scalar_one()
        ref = f"reward:{event.task_id}"
        return [await _post(connection, message, event.worker_id, "reward", reward_minor, ref, event.task_id)]

    return handle


async def _post(
    connection: AsyncConnection,
    message: KafkaMessage,
    worker_id: str,
    kind: Any,
    signed_minor: int,
    source_ref: str,
    task_id: str,
) -> TransactionApplied:
    account = (await connection.execute(select(ledger_account).where(ledger_account.c.worker_id == worker_id))).first()
    balance_minor = (account.balance_minor if account else 0) + signed_minor
    sequence = (account.version if account else 0) + 1
    if account is None:
        await connection.execute(
            insert(ledger_account).values(worker_id=worker_id, balance_minor=balance_minor, version=sequence)
        )
    else:
        await connection.execute(
            update(ledger_account)
            .where(ledger_account.c.worker_id == worker_id)
            .values(balance_minor=balance_minor, version=sequence)
        )
    time_ms = parse_time(message.headers["ce_time"])
    transfer_id = derived_id(time_ms, message.headers["ce_source"], message.headers["ce_id"], f"transfer/{source_ref}")
    worker, house = f"worker:{worker_id}", f"house:{kind}s"
    await connection.execute(
        insert(ledger_transfer).values(
            transfer_id=transfer_id,
            source_ref=source_ref,
            kind=kind,
            debit_account=house if signed_minor > 0 else worker,
            credit_account=worker if signed_minor > 0 else house,
            amount_minor=abs(signed_minor),
            currency="USD",
            worker_id=worker_id,
            sequence=sequence,
            signed_minor=signed_minor,
            balance_after_minor=balance_minor,
            period=BUSINESS_DATE,
            business_date=BUSINESS_DATE,
            task_id=task_id,
            occurred_at_ms=time_ms,
            recorded_at_ms=time.time_ns() // 1_000_000,
        )
    )
    day = date.fromisoformat(BUSINESS_DATE)
    return TransactionApplied(
        transfer_id=transfer_id,
        worker_id=worker_id,
        sequence=sequence,
        kind=kind,
        amount_minor=signed_minor,
        currency="USD",
        balance_after_minor=balance_minor,
        period=day,
        business_date=day,
        task_id=task_id,
    )


async def run(assignment: Assignment) -> None:
    """Do the work."""
    work = ByHand(assignment)
    build(work)
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
