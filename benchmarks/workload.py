"""The work that every variant does: workers, tasks that are created and completed, and what must come of it.

Invariant: the same number of commands gives the same records and the same balances in every run and every variant.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from contracts.catalog import entry_of
from contracts.tasks import CompleteTask, CreateTask
from contracts.workers import WorkerRegistered
from streams.accounting.domain import price_of
from streams.outbox.envelope import derived_id, format_time, parse_time
from streams.outbox.producer import producer_settings
from streams.tasks.domain import assignee_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contracts.message import Message

__all__ = [
    "BUSINESS_DATE",
    "EVENTS_PER_TASK",
    "FAILING_TITLE",
    "FETCH_WAIT_MAX_MS",
    "FLOOR_TOPIC",
    "RECORDS_PER_TASK",
    "SECRET",
    "SOURCE",
    "START_MS",
    "WORKERS",
    "OutgoingRecord",
    "Workload",
    "make_workload",
    "send",
]

SECRET = b"benchmark"
SOURCE = "payday/cli"
BUSINESS_DATE = "2026-11-20"
START_MS = parse_time(f"{BUSINESS_DATE}T08:00:00Z")
WORKERS = 40
RECORDS_PER_TASK = 5
"""Consumed: create-task and complete-task by one group; task-created, -assigned and -completed by the other."""
EVENTS_PER_TASK = 6
"""Published: those three, task-priced, and a transaction-applied for fee and for reward."""
FAILING_TITLE = "[POP-13] - Fails on purpose"
FLOOR_TOPIC = "benchmark.floor"
"""Nobody's but the benchmark's."""
FETCH_WAIT_MAX_MS = 5
"""Of every consumer in the benchmark. librdkafka's mock cluster answers an empty fetch only when this time (500 ms by
default) is over, where Kafka answers as soon as a record comes: with the default the mock's pauses would be measured.
"""


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record as a producer takes it."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Workload:
    """Records to send, and the balance of each worker when all is done.

    Attributes:
        tasks: that are created and completed.
        failing: commands among the others at which the decider is to fail.
    """

    tasks: int
    failing: int
    workers: list[OutgoingRecord]
    commands: list[OutgoingRecord]
    balances: dict[str, int]


def make_workload(tasks: int, failing: int = 0) -> Workload:
    """One create-task and one complete-task by the assignee for each task; first all of the former.

    Args:
        tasks: that are created and completed.
        failing: create-task commands of `FAILING_TITLE` and of no other task, evenly spread among the rest.
    """
    worker_ids = [derived_id(START_MS, "worker", str(number)) for number in range(WORKERS)]
    workers: list[Message] = [
        WorkerRegistered(worker_id=worker_id, name="Worker", email="worker@example.com", role="worker")
        for worker_id in worker_ids
    ]
    creations: list[OutgoingRecord] = []
    completions: list[OutgoingRecord] = []
    balances: Counter[str] = Counter()
    for number in range(tasks):
        time_ms = START_MS + number
        task_id, command_id = derived_id(time_ms, "task", str(number)), derived_id(time_ms, "create", str(number))
        assignment_id = derived_id(time_ms, SOURCE, command_id, f"assignment/{task_id}")
        assignee = assignee_for(SECRET, assignment_id, sorted(worker_ids))
        price = price_of(SECRET, task_id, time_ms)
        balances[assignee] += price.reward_minor - price.fee_minor
        creations.append(_record(CreateTask(task_id=task_id, title="[POP-1] - Water the palms"), command_id, time_ms))
        completion_id = derived_id(time_ms, "complete", str(number))
        completions.append(_record(CompleteTask(task_id=task_id, worker_id=assignee), completion_id, time_ms))
    return Workload(
        tasks,
        failing,
        [_record(worker, derived_id(START_MS, "join", str(n)), START_MS) for n, worker in enumerate(workers)],
        _spread(creations + completions, [_failing(number) for number in range(failing)]),
        dict(balances),
    )


def _failing(number: int) -> OutgoingRecord:
    time_ms = START_MS + number
    task_id = derived_id(time_ms, "failing-task", str(number))
    command_id = derived_id(time_ms, "failing-create", str(number))
    return _record(CreateTask(task_id=task_id, title=FAILING_TITLE), command_id, time_ms)


def _spread(records: list[OutgoingRecord], others: list[OutgoingRecord]) -> list[OutgoingRecord]:
    """Both, in order, the others at even distances."""
    whole: list[OutgoingRecord] = []
    taken = 0
    for number, other in enumerate(others):
        until = (number + 1) * len(records) // len(others)
        whole += [*records[taken:until], other]
        taken = until
    return whole + records[taken:]


def send(bootstrap_servers: str, records: Iterable[OutgoingRecord], prefix: str = "") -> None:
    """Publish to the topics with this prefix, and return when everything is acknowledged.

    Raises:
        RuntimeError: something was not.
    """
    producer = Producer(producer_settings(bootstrap_servers) | {"queue.buffering.max.messages": 100_000})
    refused: list[str] = []
    for record in records:
        producer.produce(
            prefix + record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            on_delivery=lambda error, _message: refused.append(str(error)) if error else None,
        )
        producer.poll(0)
    if producer.flush(30) or refused:
        raise RuntimeError(f"the broker did not take everything: {refused[:1]}")


def _record(message: Message, message_id: str, time_ms: int) -> OutgoingRecord:
    entry = entry_of(message)
    assert entry.key is not None, "commands and workers' events have keys of their own"
    headers: list[tuple[str, str | bytes | None]] = [
        ("ce_specversion", "1.0"),
        ("ce_id", message_id),
        ("ce_type", entry.type_name),
        ("ce_source", SOURCE),
        ("ce_time", format_time(time_ms)),
        ("content-type", "application/json"),
    ]
    return OutgoingRecord(entry.topic, entry.key(message).encode(), message.encode(), headers)
