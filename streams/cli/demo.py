"""`payday demo`: the whole app in one process, with a company that keeps it busy.

It plays a day that is over, stops by draining, checks that everything that was sent or published was read by every group
that subscribes to it, audits the books and says what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Producer, TopicPartition
from sqlalchemy import func, select

from contracts.catalog import topics
from contracts.tasks import TaskAssigned
from streams.app import compose
from streams.cli.demo_company import Company, junk
from streams.cli.demo_view import DemoView
from streams.cli.pace import embedded_pace
from streams.embedded.broker import LIMITS, EmbeddedBroker
from streams.inspection.audit import run_audit
from streams.inspection.log_ends import LogEndsReader, quiet_consumer
from streams.inspection.readings import all_topics, app_readings
from streams.inspection.settled import NotSettled, SettledWatch
from streams.intake.tables import parked, progress
from streams.ledger.tables import ledger_transfer
from streams.outbox.headers import unpack
from streams.outbox.producer import producer_settings
from streams.outbox.relay import no_pace
from streams.outbox.tables import outbox
from streams.settings import load_settings
from streams.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.app import Payday
    from streams.outbox.envelope import OutgoingMessage
    from streams.outbox.relay import Pace
    from streams.settings import Settings

__all__ = ["run_demo"]

TASKS_PER_SECOND = 200
TICK_SECONDS = 0.05
JUNK_PER_SECOND = 2
REASSIGN_EVERY_SECONDS = 5.0
JOIN_TIMEOUT_SECONDS = 60.0
DRAIN_TIMEOUT_SECONDS = 120.0
VIEW_SECONDS = 0.5
REPORT_SECONDS = 5.0
SEED = 20


@dataclass(slots=True)
class Traffic:
    """What the company has sent. `acknowledged` are those that the broker has confirmed, by topic."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    @property
    def sent(self) -> int:
        """Acknowledged messages."""
        return sum(self.acknowledged.values())


@dataclass(frozen=True, slots=True)
class Counts:
    """What the database says at one moment, over all groups."""

    consumed: int
    handled: int
    duplicate: int
    parked: int
    dead: int
    published: int
    outbox_unsent: int
    transactions: int


def run_demo(*, seconds: float, headless: bool, as_json: bool) -> int:
    """Run the demo and print its summary.

    Args:
        seconds: of traffic; draining comes on top.
        headless: no live display.
        as_json: print the summary as one JSON value.

    Returns:
        The exit code: 0 when the audit found nothing and everything was read.
    """
    with tempfile.TemporaryDirectory(prefix="payday-demo-") as home:
        settings = load_settings(home=Path(home), kafka_bootstrap_servers=None, database_url=None)
        with EmbeddedBroker([settings.topic_prefix + topic for topic in topics()], settings.embedded_address_file):
            if not as_json:
                sys.stderr.write(f"note: {LIMITS}\n")
            summary, findings = asyncio.run(_Demo(settings, seconds, live=not headless).run())
    for finding in findings:
        sys.stderr.write(f"{finding}\n")
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        DemoView.print_summary(summary)
    return 0 if summary["audit_ok"] else 1


class _Demo:
    def __init__(self, settings: Settings, seconds: float, *, live: bool) -> None:
        self._settings = settings
        self._seconds = seconds
        self._address = settings.bootstrap_servers()
        self._ends = LogEndsReader(self._address)
        self._stop = asyncio.Event()
        self._traffic = Traffic()
        self._view = DemoView(live=live and sys.stderr.isatty())
        self._assigned = _AssignmentFeed(self._address, settings.topic_prefix)

    async def run(self) -> tuple[dict[str, Any], list[str]]:
        """Play the day; the summary and what is wrong."""
        self._stop_on_signals()
        database = Database(self._settings.database)
        pace: Pace = no_pace
        payday = compose(self._settings, pace=_Late(lambda: pace))
        pace = embedded_pace(self._settings, database, self._ends, stall_seconds=None)
        await payday.app.start()
        try:
            with self._view:
                await self._join(payday)
                viewing = asyncio.create_task(self._show(database))
                await self._play(database)
                settled = await self._drain(database)
                viewing.cancel()
                await asyncio.gather(viewing, return_exceptions=True)
            findings = [*settled, *await self._unread(database), *await run_audit_lines(database)]
            counts = await read_counts(database)
        finally:
            await payday.app.stop()
            await self._ends.close()
            await self._assigned.close()
            await database.close()
        summary = {"sent": self._traffic.sent, **asdict(counts), "audit_ok": not findings}
        return summary, findings

    def _stop_on_signals(self) -> None:
        """The first signal drains, the second ends at once."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)

    async def _join(self, payday: Payday) -> None:
        async with asyncio.timeout(JOIN_TIMEOUT_SECONDS):
            while not payday.intake.joined:
                self._view.say("the groups are being given their partitions")
                await asyncio.sleep(TICK_SECONDS)

    async def _play(self, database: Database) -> None:
        zone = self._settings.zone
        yesterday = (datetime.now(zone) - timedelta(days=1)).date()
        company = Company(SEED, yesterday, zone)
        source = random.Random(SEED)  # noqa: S311  a story, not a secret
        producer = Producer(producer_settings(self._address))
        pace = embedded_pace(self._settings, database, self._ends)
        self._view.say("the doors open")
        await self._send(producer, pace, company.open_the_doors())
        await self._settle(database)
        self._assigned.start(company.hear_of_assignment)
        started = time.monotonic()
        created, junked, reassigned = 0, 0, 0
        self._view.say("the company is at work; Ctrl-C ends the day early")
        while (elapsed := time.monotonic() - started) < self._seconds and not self._stop.is_set():
            due = int(elapsed * TASKS_PER_SECOND) - created
            await self._send(producer, pace, company.work(due, elapsed / self._seconds))
            created += due
            if elapsed * JUNK_PER_SECOND > junked:
                junked += 1
                await self._send(producer, pace, [junk(source)])
            if elapsed > (reassigned + 1) * REASSIGN_EVERY_SECONDS:
                reassigned += 1
                await self._send(producer, pace, [company.reassign()])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
        self._view.say("the day is over: everything under way is finished")
        await self._send(producer, pace, [company.let_somebody_go()])
        await self._settle(database)
        await self._send(producer, pace, [company.end_the_day()])
        left = await asyncio.to_thread(producer.flush, DRAIN_TIMEOUT_SECONDS)
        self._traffic.failed += left

    async def _send(self, producer: Any, pace: Pace, messages: Iterable[OutgoingMessage]) -> None:
        prefix = self._settings.topic_prefix
        batch = list(messages)
        await pace.before_writing([(prefix + one.topic, len(one.value) + len(one.headers)) for one in batch])
        for message in batch:
            producer.produce(
                prefix + message.topic,
                key=message.key,
                value=message.value,
                headers=unpack(message.headers),
                on_delivery=self._delivered,
            )
        producer.poll(0)

    def _delivered(self, error: object | None, message: Any) -> None:
        if error is not None:
            self._traffic.failed += 1
            return
        topic = message.topic()
        self._traffic.acknowledged[topic] = self._traffic.acknowledged.get(topic, 0) + 1

    async def _settle(self, database: Database) -> None:
        await self._watch(database).wait(DRAIN_TIMEOUT_SECONDS)

    async def _drain(self, database: Database) -> list[str]:
        try:
            await self._settle(database)
        except NotSettled as error:
            return [str(error)]
        return [f"{self._traffic.failed} messages of the company were not acknowledged"] if self._traffic.failed else []

    def _watch(self, database: Database) -> SettledWatch:
        readings = app_readings(self._settings.topic_prefix, self._settings.group_prefix)
        return SettledWatch(database, self._ends, readings, group_prefix=self._settings.group_prefix)

    async def _unread(self, database: Database) -> list[str]:
        """Whether every group read all that was sent or published on its topics.

        What was written is counted by the writers, what was read is counted by the readers.
        """
        readings = app_readings(self._settings.topic_prefix, self._settings.group_prefix)
        async with database.read() as connection:
            rows = await connection.execute(
                select(outbox.c.topic, func.count()).where(outbox.c.sent_at_ms.is_not(None)).group_by(outbox.c.topic)
            )
            written = dict(self._traffic.acknowledged)
            for topic, count in rows:
                written[topic] = written.get(topic, 0) + count
            rows = await connection.execute(
                select(
                    progress.c.group_name, progress.c.topic, func.sum(progress.c.next_offset - progress.c.first_offset)
                )
                .where(progress.c.lost == 0, progress.c.skipped == 0)
                .group_by(progress.c.group_name, progress.c.topic)
            )
            read = {(group, topic): count for group, topic, count in rows}
        return [
            f"{reading.group} read {read.get((reading.group, topic), 0)} of the {written[topic]} records of {topic}"
            for reading in readings
            for topic in all_topics(reading)
            if topic in written and read.get((reading.group, topic), 0) < written[topic]
        ]

    async def _show(self, database: Database) -> None:
        reported = time.monotonic()
        while True:
            counts = await read_counts(database)
            self._view.update(self._traffic.sent, counts)
            if time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                self._view.report(self._traffic.sent, counts)
            await asyncio.sleep(VIEW_SECONDS)


class _Late:
    """A pace that is known only after the app has been composed."""

    def __init__(self, pace: Callable[[], Pace]) -> None:
        self._pace = pace

    async def before_writing(self, sizes: Any, /) -> None:
        await self._pace().before_writing(sizes)


class _AssignmentFeed:
    """Reads `task-assigned` events as a client of the app would: without a group, from the start of the topic."""

    def __init__(self, address: str, topic_prefix: str) -> None:
        self._topic = topic_prefix + "tasks.events"
        self._consumer = quiet_consumer(address, "demo-company", **{"auto.offset.reset": "earliest"})
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self, hear: Callable[[str, str], None]) -> None:
        """Call `hear` with task and worker of every assignment."""
        partitions = self._consumer.list_topics(self._topic, timeout=5).topics[self._topic].partitions
        self._consumer.assign([TopicPartition(self._topic, number, 0) for number in partitions])
        self._task = asyncio.get_running_loop().create_task(self._read(hear))

    async def close(self) -> None:
        """Stop reading."""
        self._closing = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._consumer.close)

    async def _read(self, hear: Callable[[str, str], None]) -> None:
        while not self._closing:
            for record in await asyncio.to_thread(self._consumer.consume, 500, TICK_SECONDS):
                headers = dict(record.headers() or ())
                if record.error() is None and headers.get("ce_type") == b"tasks.task-assigned.v1":
                    event = TaskAssigned.decode(cast("bytes", record.value()))
                    hear(event.task_id, event.worker_id)


async def run_audit_lines(database: Database) -> list[str]:
    """What the audit finds, a line each."""
    return (await run_audit(database)).lines


async def read_counts(database: Database) -> Counts:
    """What the database says now."""
    async with database.read() as connection:
        sums = (
            await connection.execute(
                select(*(func.coalesce(func.sum(progress.c[name]), 0) for name in ("consumed", "handled", "duplicate")))
            )
        ).one()
        in_store = await _count(connection, parked.c.resolved_at_ms.is_(None))
        dead = await _count(connection, parked.c.resolved_at_ms.is_(None), parked.c.state == "dead")
        published = await _count(connection, outbox.c.sent_at_ms.is_not(None))
        unsent = await _count(connection, outbox.c.sent_at_ms.is_(None))
        transactions = (await connection.execute(select(func.count()).select_from(ledger_transfer))).scalar_one()
    return Counts(*sums, in_store, dead, published, unsent, transactions)


async def _count(connection: AsyncConnection, *conditions: Any) -> int:
    return (await connection.execute(select(func.count()).where(*conditions))).scalar_one()
