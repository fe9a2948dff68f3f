"""What the variant by hand does with each type of message: a closure that is run in the message's transaction."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Any

from faststream.confluent.annotations import KafkaMessage
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.workload import BUSINESS_DATE, SECRET
from contracts.accounting import TaskPriced, TransactionApplied
from contracts.message import Message
from contracts.tasks import CompleteTask, CreateTask, TaskAssigned, TaskCompleted, TaskCreated
from contracts.workers import WorkerRegistered
from streams.accounting.domain import price_of
from streams.accounting.tables import accounting_price
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.outbox.envelope import derived_id, parse_time
from streams.tasks.domain import assignee_for
from streams.tasks.tables import tasks_assignment, tasks_task, tasks_worker

__all__ = ["Published", "charge", "complete", "create", "price", "register", "reward"]

Published = list[Message]


def register(table: Any, message: KafkaMessage) -> Any:
    """A worker of a group's own table."""

    async def handle(connection: AsyncConnection) -> Published:
        worker = WorkerRegistered.decode(message.body)
        await connection.execute(insert(table).values(worker_id=worker.worker_id, role=worker.role, active=True))
        return []

    return handle


def create(message: KafkaMessage) -> Any:
    """A task with its first assignment."""

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


def complete(message: KafkaMessage) -> Any:
    """A task is done."""

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


def price(message: KafkaMessage) -> Any:
    """A task's price."""

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


def charge(message: KafkaMessage) -> Any:
    """The fee for an assignment."""

    async def handle(connection: AsyncConnection) -> Published:
        event = TaskAssigned.decode(message.body)
        prices = select(accounting_price.c.fee_minor).where(accounting_price.c.task_id == event.task_id)
        fee_minor = (await connection.execute(prices)).scalar_one()
        ref = f"fee:{event.assignment_id}"
        return [await _post(connection, message, event.worker_id, "fee", -fee_minor, ref, event.task_id)]

    return handle


def reward(message: KafkaMessage) -> Any:
    """The reward for a task."""

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
