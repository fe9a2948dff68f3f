"""Two processes at once on one PostgreSQL database: what they do to the same rows, in every order that matters."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from contracts.accounting import ClosePeriod
from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks
from contracts.workers import WorkerRegistered
from streams.app import ALL_METADATA
from streams.inspection.audit import audit
from streams.intake.classify import Fenced
from streams.storage.database import Database
from streams.storage.errors import SchemaMismatch, is_contention
from streams.storage.migrate import prepare, schema_state, upgrade
from streams.tasks.reassignment import Reassigner
from tests.conformance.slices import ACCOUNTING, CATALOG, TASK_RULES, TASKS, Consumer, Hold, fee, named
from tests.conformance.test_outages import until_waiting
from tests.kit import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contracts.message import Message
    from tests.services.postgres import Postgres

DATABASES = ("postgresql",)
SEQUENCES = "SELECT sequence FROM ledger_transfer ORDER BY sequence"
EMITTED = "SELECT key, type FROM outbox ORDER BY id"


async def take_at_last(consumer: Consumer, messages: Sequence[Message], offset: int, partition: int) -> Counter[str]:
    """A batch as the middlewares retry it: redone under contention. Counts the reasons by SQLSTATE or class."""
    reasons: Counter[str] = Counter()
    while True:
        try:
            await consumer.take(messages, offset, partition=partition)
        except Exception as error:
            if not is_contention(error):
                raise
            reasons[getattr(getattr(error, "orig", None), "sqlstate", None) or type(error).__name__] += 1
        else:
            return reasons


async def test_batches_on_the_same_accounts_lose_nothing_and_never_deadlock(
    database: Database, other_database: Database
) -> None:
    """Accounts are locked in the order of their ids, whatever the order of the records."""
    workers = [f"worker {number}" for number in range(8)]
    await Consumer(database, ACCOUNTING, "opening").take([fee(one, 9000 + n) for n, one in enumerate(workers)], 0)

    async def run(through: Database, partition: int, order: list[str]) -> Counter[str]:
        consumer = Consumer(through, ACCOUNTING, "accounting")
        reasons: Counter[str] = Counter()
        for batch in range(15):
            numbers = range(batch * 16, batch * 16 + 16)
            messages = [fee(order[number % len(order)], partition * 1000 + number) for number in numbers]
            reasons += await take_at_last(consumer, messages, batch * 16, partition)
        return reasons

    reasons = await asyncio.gather(run(database, 1, workers), run(other_database, 2, workers[::-1]))
    assert not sum(reasons, Counter())
    result = await audit(database, settled=False)
    assert result.ok, result.counts
    assert await rows(database, "SELECT count(*), count(DISTINCT worker_id) FROM ledger_transfer") == [(488, 8)]
    assert set(await rows(database, "SELECT version FROM ledger_account")) == {(61,)}


async def test_the_first_postings_of_an_account_may_be_made_at_once(
    database: Database, other_database: Database
) -> None:
    """There is no row to lock yet: whoever comes second is told so, does it again and finds the account."""
    first, second = Consumer(database, ACCOUNTING, "accounting"), Consumer(other_database, ACCOUNTING, "accounting")
    hold = Hold()
    ahead = asyncio.create_task(first.take([fee("ann", 1)], 0, partition=0, hold=hold))
    await hold.reached.wait()
    behind = asyncio.create_task(take_at_last(second, [fee("ann", 2)], 0, 1))
    await until_waiting(database)
    hold.released.set()
    await ahead
    assert await behind == Counter({"DatabaseBusy": 1})
    assert await rows(database, SEQUENCES) == [(1,), (2,)]
    assert (await audit(database, settled=False)).ok


async def test_events_of_a_key_have_the_order_of_their_commits_although_it_had_no_row(
    database: Database, other_database: Database
) -> None:
    """The relay sends in the order of ids: the second first posting got its id after the first had committed."""
    first, second = Consumer(database, ACCOUNTING, "accounting"), Consumer(other_database, ACCOUNTING, "accounting")
    hold = Hold()
    ahead = asyncio.create_task(first.take([fee("ann", 1)], 0, partition=0, hold=hold))
    await hold.reached.wait()
    behind = asyncio.create_task(take_at_last(second, [fee("ann", 2)], 0, 1))
    await until_waiting(database)
    hold.released.set()
    await asyncio.gather(ahead, behind)
    applied = await rows(
        database,
        "SELECT convert_from(value, 'UTF8')::jsonb ->> 'sequence' FROM outbox "
        "WHERE type LIKE '%transaction%' ORDER BY id",
    )
    assert applied == [("1",), ("2",)]


async def test_of_two_consumers_of_a_new_partition_one_is_fenced(database: Database, other_database: Database) -> None:
    """Neither finds a row of progress; the one that commits second has no effect, and no event out of order."""
    first, second = Consumer(database, TASKS, "tasks"), Consumer(other_database, TASKS, "tasks")
    unknown = CompleteTask(task_id=named("task"), worker_id=named("ann"))
    hold = Hold()
    ahead = asyncio.create_task(first.take([unknown], 0, hold=hold))
    await hold.reached.wait()
    behind = asyncio.create_task(take_at_last(second, [unknown, unknown], 0, 0))
    await until_waiting(database)
    hold.released.set()
    await ahead
    with pytest.raises((Fenced, IntegrityError)):  # the answer to the command is in its table already
        await behind
    with pytest.raises(Fenced):  # what the middlewares do with such a failure: once more
        await second.take([unknown, unknown], 0)
    assert len(await rows(database, EMITTED)) == 1


async def test_a_consumer_that_was_replaced_is_fenced(database: Database, other_database: Database) -> None:
    """The compare-and-set waits for the other one's transaction and then looks again."""
    zombie, owner = Consumer(database, ACCOUNTING, "accounting"), Consumer(other_database, ACCOUNTING, "accounting")
    await zombie.take([fee("ann", 1)], 0)
    hold = Hold()
    taking_over = asyncio.create_task(owner.take([fee("bob", 2)], 1, hold=hold))
    await hold.reached.wait()
    waking_up = asyncio.create_task(take_at_last(zombie, [fee("cid", 3)], 1, 0))
    await until_waiting(database)
    hold.released.set()
    await taking_over
    with pytest.raises(Fenced):
        await waking_up
    assert await rows(database, "SELECT next_offset, consumed FROM progress") == [(2, 2)]
    assert await rows(database, "SELECT count(*) FROM ledger_transfer") == [(2,)]


async def test_closing_a_period_waits_for_postings_that_are_under_way(
    database: Database, other_database: Database
) -> None:
    """And whatever comes after it waits for the closing: a posting is either in the period or knows that it is over."""
    posting, closing = Consumer(database, ACCOUNTING, "accounting"), Consumer(other_database, ACCOUNTING, "closing")
    late = Consumer(database, ACCOUNTING, "accounting")
    hold, hold_closing = Hold(), Hold()
    under_way = asyncio.create_task(posting.take([fee("ann", 1)], 0, partition=0, hold=hold))
    await hold.reached.wait()
    close = asyncio.create_task(closing.take([ClosePeriod(period=date(2026, 11, 20))], 0, hold=hold_closing))
    await until_waiting(database)
    assert not hold_closing.reached.is_set()
    after = asyncio.create_task(late.take([fee("ann", 2)], 0, partition=1))
    await until_waiting(database, 2)
    hold.released.set()
    await under_way
    await hold_closing.reached.wait()
    assert not after.done()
    hold_closing.released.set()
    await asyncio.gather(close, after)
    assert await rows(database, "SELECT sequence, period FROM ledger_transfer ORDER BY sequence") == [
        (1, "2026-11-20"),
        (2, "2026-11-21"),
    ]


async def test_postings_do_not_wait_for_each_others_book(database: Database, other_database: Database) -> None:
    """The book's lock is shared: two batches on different accounts are open at the same time."""
    first, second = Consumer(database, ACCOUNTING, "accounting"), Consumer(other_database, ACCOUNTING, "accounting")
    hold = Hold()
    ahead = asyncio.create_task(first.take([fee("ann", 1)], 0, partition=0, hold=hold))
    await hold.reached.wait()
    await second.take([fee("bob", 2)], 0, partition=1)
    assert not ahead.done()
    hold.released.set()
    await ahead


async def test_two_workers_share_a_reassignment(database: Database, other_database: Database) -> None:
    """Each open task is drawn anew exactly once."""
    consumer = Consumer(database, TASKS, "tasks")
    boss = WorkerRegistered(worker_id=named("boss"), name="Boss", email="boss@example.org", role="manager")
    ann = WorkerRegistered(worker_id=named("ann"), name="Ann", email="ann@example.org", role="worker")
    await consumer.take([boss, ann], 0)
    await consumer.take([CreateTask(task_id=named(f"task {n}"), title="t") for n in range(1200)], 0)
    await consumer.take([ReassignOpenTasks(requested_by=named("boss"))], 0)
    workers = [
        Reassigner(through, CATALOG, TASK_RULES, topic_prefix="", wake_relay=lambda: None)
        for through in (database, other_database)
    ]
    await asyncio.gather(*(worker.run_until_idle() for worker in workers))
    assert await rows(
        database, "SELECT reason, count(*), count(DISTINCT task_id) FROM tasks_assignment GROUP BY 1"
    ) == [
        ("created", 1200, 1200),
        ("reassigned", 1200, 1200),
    ]
    assert await rows(database, "SELECT count(*) FROM outbox WHERE type LIKE '%task-assigned%'") == [(2400,)]


async def test_of_two_upgrades_at_once_one_does_the_work(postgres: Postgres) -> None:
    """The other one waits and finds nothing to do; afterwards the tables are right."""
    url = postgres.fresh_database(migrated=False)
    both = [Database(url) for _ in range(2)]
    assert (await schema_state(both[0])).empty
    await asyncio.gather(*(upgrade(one) for one in both))
    assert (await schema_state(both[1], ALL_METADATA)).matches
    for one in both:
        await one.close()


async def test_a_start_on_a_server_without_tables_is_refused(postgres: Postgres) -> None:
    """Nobody makes tables on a server by accident; the error has the command."""
    database = Database(postgres.fresh_database(migrated=False))
    with pytest.raises(SchemaMismatch, match=r"has no tables yet.*payday db upgrade"):
        await prepare(database)
    assert (await schema_state(database)).empty
    await database.close()


async def test_accounts_are_locked_in_the_order_of_their_ids(database: Database, other_database: Database) -> None:
    """While the second of three is taken, the first one is locked already and the last one not yet."""
    names = sorted(("ann", "bob", "cid"), key=named)
    consumer = Consumer(database, ACCOUNTING, "accounting")
    await consumer.take([fee(name, number) for number, name in enumerate(names)], 0)
    free = text("SELECT count(*) FROM (SELECT 1 FROM ledger_account WHERE worker_id = :w FOR UPDATE SKIP LOCKED) f")
    async with other_database.write() as connection:
        await connection.execute(free, {"w": named(names[1])})
        batch = asyncio.create_task(consumer.take([fee(name, 10 + n) for n, name in enumerate(names[::-1])], 3))
        await until_waiting(other_database)
        found = [(await connection.execute(free, {"w": named(name)})).scalar_one() for name in names]
    await batch
    assert found == [0, 1, 1]
