"""The slices' own decisions in units of work that can be held open between saving and committing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from contracts.catalog import entry_of
from contracts.tasks import TaskAssigned
from streams.accounting import domain as accounting_domain
from streams.accounting import handlers as accounting
from streams.catalog import ContractCatalog
from streams.intake.decode import decode_all
from streams.intake.record import Record
from streams.intake.subscription import Subscription
from streams.intake.unit_of_work import UnitOfWork
from streams.ledger.domain import BusinessCalendar
from streams.outbox.envelope import parse_time
from streams.tasks import domain as tasks_domain
from streams.tasks import handlers as tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contracts.message import Message
    from streams.intake.deciders import Deciders
    from streams.storage.database import Database

NAMESPACE = UUID("00000000-0000-4000-8000-000000000000")
NOON = parse_time("2026-11-20T12:00:00Z")
CATALOG = ContractCatalog()
SECRET = b"secret"
TASK_RULES = tasks_domain.Rules(SECRET, 300)
ACCOUNTING = accounting.deciders(
    accounting_domain.Rules(SECRET, BusinessCalendar(ZoneInfo("UTC"), "USD", 300)),
)
TASKS = tasks.deciders(TASK_RULES, lambda: None)


@dataclass
class Hold:
    """A transaction stops here after it has saved: `reached` is set, and it commits once `released` is."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.reached.set()
        await self.released.wait()


class Consumer:
    """One consumer of a slice in one process, with what it knows of its partitions.

    Args:
        database: as its process sees it.
        deciders: of its slice.
        group: of its slice.
    """

    def __init__(self, database: Database, deciders: Deciders, group: str) -> None:
        self._deciders = deciders
        self.subscription = Subscription(
            group=group,
            topics=("t",),
            accepts=[entry_of(contract).type_name for contract in deciders.message_types],
            catalog=CATALOG,
            database=database,
            wake_relay=lambda: None,
        )

    async def take(
        self, messages: Sequence[Message], offset: int, *, partition: int = 0, hold: Hold | None = None
    ) -> None:
        """One batch, as the middlewares run it, without their redoing."""
        records = [record(message, offset + number, partition) for number, message in enumerate(messages)]
        decode_all(records, CATALOG, self.subscription.accepts)
        async with self.subscription.database.write() as connection:
            work = UnitOfWork(connection, self.subscription, records)
            await work.open()
            await self._deciders.decide(work.live, work)
            await work.save()
            if hold is not None:
                await hold()
        work.finish()


def record(message: Message, offset: int, partition: int) -> Record:
    """As it comes from Kafka. Its id is that of its place, so that it is the same when it is read again."""
    described = CATALOG.describe(message)
    message_id = uuid5(NAMESPACE, f"{described.topic}/{partition}/{offset}")
    headers: list[tuple[str, bytes | None]] = [
        ("ce_id", str(message_id).encode()),
        ("ce_source", b"test"),
        ("ce_type", described.type.encode()),
        ("ce_time", b"2026-11-20T12:00:00Z"),
    ]
    return Record(described.topic, partition, offset, NOON, described.key, CATALOG.encode(message), headers)


def named(name: str) -> str:
    """A UUID for a name."""
    return str(uuid5(NAMESPACE, name))


def fee(worker: str, number: int) -> TaskAssigned:
    """An event that charges a worker the fee of a task of its own."""
    return TaskAssigned(
        task_id=named(f"task {number}"),
        assignment_id=named(f"assignment {number}"),
        worker_id=named(worker),
        reason="created",
    )
