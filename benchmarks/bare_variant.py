"""(c) The same work with nothing but confluent-kafka and the database's driver: two consumers, one producer, one loop.

Written for speed: batches of 500, state in one query per table, rows in one statement per table, bodies and headers
formatted as text, one producer for all. The rows are Payday's (inbox, progress, outbox included), and so are the events
and the order commit, publish, mark. What it leaves out: validation, errors, retries, rebalances, more than one process,
and the rule of one record in flight per key.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.bare_postgresql import PostgresqlStore
from benchmarks.bare_sqlite import SqliteStore
from benchmarks.contestant import Assignment, read_assignment, report_ready, report_settled
from benchmarks.workload import BUSINESS_DATE, EVENTS_PER_TASK, FETCH_WAIT_MAX_MS, RECORDS_PER_TASK, SECRET, WORKERS
from streams.accounting.domain import price_of
from streams.outbox.envelope import derived_id, format_time, lane_of, parse_time
from streams.outbox.producer import producer_settings
from streams.tasks.domain import assignee_for

if TYPE_CHECKING:
    from benchmarks.bare_store import BareStore, Row

BATCH = 500
Headers = dict[str, str]


def _headers(message: Any) -> Headers:
    return {name: value.decode() for name, value in message.headers()}


class Group:
    """A consumer and how its batches are handled."""

    def __init__(self, assignment: Assignment, name: str, topics: list[str]) -> None:
        self.name = assignment.prefix + name
        self.consumed = 0
        self.consumer = Consumer(
            {
                "bootstrap.servers": assignment.bootstrap_servers,
                "group.id": self.name,
                "auto.offset.reset": "earliest",
                "enable.auto.offset.store": False,
                "auto.commit.interval.ms": 1000,
                "fetch.wait.max.ms": FETCH_WAIT_MAX_MS,
            }
        )
        self.consumer.subscribe([assignment.prefix + topic for topic in topics])


class Bare:
    """Everything in one loop."""

    def __init__(self, assignment: Assignment, store: BareStore) -> None:
        self.assignment = assignment
        self.store = store
        self.producer = Producer(producer_settings(assignment.bootstrap_servers))
        self.workers: list[str] = []
        self.accounts: dict[str, tuple[int, int]] = {}
        self.outbox_id = 0
        self.acknowledged: list[int] = []
        self.marked = 0

    async def run(self) -> None:
        """Do the work."""
        tasks = Group(self.assignment, "tasks", ["workers.events", "tasks.commands"])
        accounting = Group(self.assignment, "accounting", ["workers.events", "tasks.events"])
        expected = 2 * WORKERS + self.assignment.tasks * RECORDS_PER_TASK
        first_at: float | None = None
        ready = False
        while self.marked < self.assignment.tasks * EVENTS_PER_TASK or tasks.consumed + accounting.consumed < expected:
            for group, decide in ((tasks, self._decide_tasks), (accounting, self._decide_accounting)):
                messages = group.consumer.consume(BATCH, 0.001)
                if messages and ready and first_at is None:
                    first_at = time.monotonic()
                if messages or self.acknowledged:
                    await self._transaction(group, messages, decide)
                self.producer.poll(0)
            if not ready and tasks.consumed + accounting.consumed == 2 * WORKERS:
                ready = True
                report_ready()
        report_settled(first_at)
        tasks.consumer.close()
        accounting.consumer.close()

    async def _transaction(self, group: Group, messages: list[Message], decide: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        acknowledged, self.acknowledged = self.acknowledged, []
        await self.store.begin()
        if acknowledged:
            await self.store.mark_sent(acknowledged, now_ms)
        events: list[Row] = []
        next_offsets: dict[tuple[str, int], int] = {}
        if messages:
            headers = [_headers(message) for message in messages]
            known = await self.store.known(group.name, [(each["ce_source"], each["ce_id"]) for each in headers])
            assert not known, "nothing is sent twice here"
            await self._inbox_and_progress(group, messages, headers, next_offsets, now_ms)
            events = await decide(
                [(each, json.loads(m.value() or b"")) for each, m in zip(headers, messages, strict=True)], now_ms
            )
            await self.store.save_events([event[:9] for event in events])
        await self.store.commit()
        self.marked += len(acknowledged)
        group.consumed += len(messages)
        if next_offsets:
            group.consumer.store_offsets(offsets=[TopicPartition(*key, offset) for key, offset in next_offsets.items()])
        for event in events:
            self._publish(event)

    def _publish(self, event: Row) -> None:
        number, topic, key, _lane, value = event[:5]
        self.producer.produce(
            self.assignment.prefix + topic,
            key=key,
            value=value,
            headers=event[9],
            on_delivery=lambda _e, _m: self.acknowledged.append(number),
        )

    async def _inbox_and_progress(
        self,
        group: Group,
        messages: list[Message],
        headers: list[Headers],
        next_offsets: dict[tuple[str, int], int],
        now_ms: int,
    ) -> None:
        counts: dict[tuple[str, int], int] = {}
        for message in messages:
            key = (message.topic() or "", message.partition() or 0)
            next_offsets[key] = (message.offset() or 0) + 1
            counts[key] = counts.get(key, 0) + 1
        await self.store.save_intake(
            [(group.name, h["ce_source"], h["ce_id"], h["ce_type"], b"0123456789abcdef", now_ms) for h in headers],
            [(group.name, *key, next_offsets[key], count, count, now_ms) for key, count in counts.items()],
        )

    def _event(self, cause: Headers, time_ms: int, index: int, kind: Row, value: str, now_ms: int) -> Row:
        """A row of the outbox, and behind it the headers as the producer wants them."""
        type_name, topic, source, key = kind
        self.outbox_id += 1
        cause_id = cause["ce_id"]
        message_id = derived_id(time_ms, cause["ce_source"], cause_id, f"{source}/{index}")
        headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", message_id),
            ("ce_type", type_name),
            ("ce_source", source),
            ("ce_time", cause["ce_time"]),
            ("content-type", "application/json"),
            ("ce_correlationid", cause.get("ce_correlationid", cause_id)),
            ("ce_causationid", cause_id),
        ]
        packed = json.dumps(headers).encode()
        raw_key = key.encode()
        lane = lane_of(topic, raw_key)
        return (self.outbox_id, topic, raw_key, lane, value.encode(), packed, message_id, type_name, now_ms, headers)

    async def _decide_tasks(self, batch: list[tuple[Headers, dict[str, Any]]], now_ms: int) -> list[Row]:
        known = await self.store.tasks([body["task_id"] for _, body in batch if "task_id" in body])
        workers: list[Row] = []
        created: dict[str, list[Any]] = {}
        assignments: list[Row] = []
        done: list[Row] = []
        events: list[Row] = []
        for headers, body in batch:
            type_name, time_ms = headers["ce_type"], parse_time(headers["ce_time"])
            if type_name == "workers.worker-registered.v1":
                workers.append((body["worker_id"], body["role"], True))
                self.workers = sorted([*self.workers, body["worker_id"]])
                continue
            task_id = body["task_id"]
            kind = ("tasks.events", "payday/tasks", task_id)
            if type_name == "tasks.create-task.v1":
                assignment_id = derived_id(time_ms, headers["ce_source"], headers["ce_id"], f"assignment/{task_id}")
                worker_id = assignee_for(SECRET, assignment_id, self.workers)
                created[task_id] = [task_id, body["title"], worker_id, time_ms, None]
                assignments.append((assignment_id, task_id, worker_id, "created", time_ms))
                value = f'{{"task_id":"{task_id}","title":{json.dumps(body["title"])}}}'
                events.append(self._event(headers, time_ms, 0, ("tasks.task-created.v1", *kind), value, now_ms))
                value = (
                    f'{{"task_id":"{task_id}","assignment_id":"{assignment_id}","worker_id":"{worker_id}",'
                    '"reason":"created"}'
                )
                events.append(self._event(headers, time_ms, 1, ("tasks.task-assigned.v1", *kind), value, now_ms))
            else:
                assignee = body["worker_id"]
                if task_id in created:
                    assert created[task_id][2] == assignee
                    created[task_id][4] = time_ms
                else:
                    assert known[task_id][1:] == (assignee, known[task_id][2], None)
                    done.append((time_ms, known[task_id][2]))
                value = f'{{"task_id":"{task_id}","worker_id":"{assignee}","completed_at":"{format_time(time_ms)}"}}'
                events.append(self._event(headers, time_ms, 0, ("tasks.task-completed.v1", *kind), value, now_ms))
        await self.store.save_tasks(workers, [tuple(task) for task in created.values()], assignments, done)
        return events

    async def _decide_accounting(self, batch: list[tuple[Headers, dict[str, Any]]], now_ms: int) -> list[Row]:
        prices = await self.store.prices([body["task_id"] for _, body in batch if "task_id" in body])
        self.accounts = await self.store.accounts()
        workers: list[Row] = []
        new_prices: list[Row] = []
        transfers: list[Row] = []
        events: list[Row] = []
        for headers, body in batch:
            type_name, time_ms = headers["ce_type"], parse_time(headers["ce_time"])
            if type_name == "workers.worker-registered.v1":
                workers.append((body["worker_id"], body["role"], True))
                continue
            task_id = body["task_id"]
            if task_id not in prices:
                price = price_of(SECRET, task_id, time_ms)
                prices[task_id] = (task_id, price.fee_minor, price.reward_minor)
                new_prices.append((task_id, price.fee_minor, price.reward_minor, time_ms))
                kind = ("accounting.task-priced.v1", "accounting.events", "payday/accounting", task_id)
                value = (
                    f'{{"task_id":"{task_id}","fee_minor":{price.fee_minor},"reward_minor":{price.reward_minor},'
                    '"currency":"USD"}'
                )
                events.append(self._event(headers, time_ms, 0, kind, value, now_ms))
            if type_name == "tasks.task-assigned.v1":
                ref, posting = f"fee:{body['assignment_id']}", ("fee", -prices[task_id][1])
            elif type_name == "tasks.task-completed.v1":
                ref, posting = f"reward:{task_id}", ("reward", prices[task_id][2])
            else:
                continue
            transfer, value = self._post(headers, time_ms, body["worker_id"], task_id, ref, posting, now_ms)
            transfers.append(transfer)
            kind = ("accounting.transaction-applied.v1", "accounting.events", "payday/accounting", body["worker_id"])
            events.append(self._event(headers, time_ms, 1, kind, value, now_ms))
        assert not await self.store.posted([row[1] for row in transfers]), "nothing is posted twice"
        changed = {row[7] for row in transfers}
        accounts = [(worker_id, *self.accounts[worker_id]) for worker_id in changed]
        await self.store.save_accounting(workers, new_prices, accounts, transfers)
        return events

    def _post(
        self,
        headers: Headers,
        time_ms: int,
        worker_id: str,
        task_id: str,
        ref: str,
        posting: tuple[str, int],
        now_ms: int,
    ) -> tuple[Row, str]:
        kind, signed = posting
        balance, sequence = self.accounts.get(worker_id, (0, 0))
        balance, sequence = balance + signed, sequence + 1
        self.accounts[worker_id] = (balance, sequence)
        transfer_id = derived_id(time_ms, headers["ce_source"], headers["ce_id"], f"transfer/{ref}")
        worker, house = f"worker:{worker_id}", f"house:{kind}s"
        debit, credit = (house, worker) if signed > 0 else (worker, house)
        row = (
            transfer_id, ref, kind, debit, credit, abs(signed), "USD", worker_id, sequence, signed, balance,
            BUSINESS_DATE, BUSINESS_DATE, task_id, time_ms, now_ms,
        )  # fmt: skip
        value = (
            f'{{"transfer_id":"{transfer_id}","worker_id":"{worker_id}","sequence":{sequence},"kind":"{kind}",'
            f'"amount_minor":{signed},"currency":"USD","balance_after_minor":{balance},"period":"{BUSINESS_DATE}",'
            f'"business_date":"{BUSINESS_DATE}","task_id":"{task_id}"}}'
        )
        return row, value


async def main(assignment: Assignment) -> None:
    """Do the work on the database that the assignment names."""
    store: BareStore = (
        SqliteStore(assignment.sqlite_file)
        if assignment.database_url is None
        else await PostgresqlStore.open(assignment.postgresql_dsn)
    )
    await Bare(assignment, store).run()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(read_assignment()))
