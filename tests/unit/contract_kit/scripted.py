"""A service that answers with what a test has written down, flawless unless a fault is planted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from contracts.accounting import TransactionApplied
from contracts.tasks import CreateTask, TaskAssigned
from streams.contract_kit.records import Counts, Emitted, ParkedRecord, Sent
from streams.contract_kit.sending import Envelope, headers_of, record_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Table

    from contracts.message import Message
    from streams.contract_kit.scenario import Scenario

__all__ = [
    "ADA",
    "BOB",
    "COMMAND",
    "ELSEWHERE",
    "TASK",
    "ScriptedTransport",
    "answer",
    "assigned",
    "fee",
    "parked",
    "step",
    "with_header",
]

ADA = "ada00000-0000-4000-8000-000000000001"
BOB = "b0b00000-0000-4000-8000-000000000002"
TASK = "11111111-0000-4000-8000-000000000000"
COMMAND = CreateTask(task_id=TASK, title="Repaint")
ELSEWHERE = "00000000-0000-4000-8000-00000000dead"
DAY = date(2026, 11, 22)


@dataclass
class ScriptedTransport:
    """Emits, parks and counts as told, after each step anew."""

    emits: list[Emitted] = field(default_factory=list)
    parks: list[ParkedRecord] = field(default_factory=list)
    counted: dict[str, Counts] = field(default_factory=dict)
    sent: list[Emitted] = field(default_factory=list)

    async def send(self, records: Sequence[Emitted]) -> None:
        self.sent += records

    async def settle(self) -> None:
        """There is nothing to wait for."""

    async def emitted(self) -> Sequence[Emitted]:
        emitted, self.emits = self.emits, []
        return emitted

    async def parked(self) -> Sequence[ParkedRecord]:
        return self.parks

    async def counts(self) -> Mapping[str, Counts]:
        return dict(self.counted)

    def readers(self, topic: str) -> Sequence[str]:
        return ["tasks"] if topic.startswith("tasks.") else ["tasks", "accounting"]

    async def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """There is nothing to close."""


def answer(message: Message, cause: Emitted, event_id: str) -> Emitted:
    """A message as a faultless service would emit it because of another."""
    time = {"ce_time": cause.attributes["ce_time"]}
    causation = {"ce_correlationid": cause.correlation_id, "ce_causationid": cause.id}
    headers = headers_of(type(message), Envelope(id=event_id, headers=time | causation))
    record = record_of(message)
    return Emitted(
        record.topic,
        record.key if record.key is not None else cause.key,
        record.value,
        [(name, value.encode() if isinstance(value, str) else value) for name, value in headers.items()],
    )


def assigned(cause: Emitted, number: int = 1, worker_id: str = ADA, task_id: str = TASK) -> Emitted:
    """A task is assigned."""
    assignment_id = f"a1a1a1a1-0000-4000-8000-{number:012d}"
    event = TaskAssigned(task_id=task_id, assignment_id=assignment_id, worker_id=worker_id, reason="created")
    return answer(event, cause, f"e1e1e1e1-0000-4000-8000-{number:012d}")


def fee(cause: Emitted, amount_minor: int = -1500) -> Emitted:
    """A fee is charged."""
    event = TransactionApplied(
        transfer_id="f1f1f1f1-0000-4000-8000-000000000001",
        worker_id=ADA,
        sequence=1,
        kind="fee",
        amount_minor=amount_minor,
        currency="USD",
        balance_after_minor=amount_minor,
        period=DAY,
        business_date=DAY,
        task_id=TASK,
    )
    return answer(event, cause, "e2e2e2e2-0000-4000-8000-000000000001")


def parked(record: Sent, group: str = "tasks", reason: str = "failed", offset: int = 0) -> ParkedRecord:
    """A record is set aside."""
    return ParkedRecord(
        group, record.topic, 0, offset, record.key, record.value, record.headers, reason, "dead", "it is Friday"
    )


def with_header(record: Emitted, name: str, value: str | bytes | None) -> Emitted:
    """The same record with a header changed, or without it."""
    headers = [(known, content) for known, content in record.headers if known != name]
    if value is not None:
        headers.append((name, value.encode() if isinstance(value, str) else value))
    return replace(record, headers=headers)


async def step(contract: Scenario, service: ScriptedTransport, command: Sent, *emits: Emitted) -> None:
    """The service answers a command with these."""
    service.emits = list(emits)
    await contract.when_together(command)
