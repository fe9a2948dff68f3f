"""`payday demo`: the whole app in one process, with a company that keeps it busy.

It plays a day that is over, closes it and has everybody paid by a simulated bank, checks that everything that was sent
or published was read by every group that subscribes to it and that the bank has paid what our books say, audits the
books and says what happened.
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
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from pydantic import SecretStr

from contracts.catalog import topics
from streams.app import compose, tune_garbage_collection
from streams.cli.demo_bank import PayDay, is_paid, open_demo_bank, read_pay_day
from streams.cli.demo_company import Company, junk
from streams.cli.demo_counts import read_counts, unread
from streams.cli.demo_feed import AssignmentFeed
from streams.cli.demo_view import DemoView
from streams.cli.logging import configure_logging
from streams.cli.pace import pace_of
from streams.embedded.broker import LIMITS, EmbeddedBroker
from streams.inspection.audit import audit
from streams.inspection.log_ends import LogEndsReader
from streams.inspection.readings import app_readings
from streams.inspection.settled import NotSettled, SettledWatch
from streams.outbox.headers import unpack
from streams.outbox.producer import producer_settings
from streams.payouts.bank import BankError
from streams.settings import load_settings
from streams.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from streams.app import Payday
    from streams.outbox.envelope import OutgoingMessage
    from streams.outbox.relay import Pace
    from streams.settings import Settings

__all__ = ["run_demo"]

TASKS_PER_SECOND = 200
TICK_SECONDS = 0.05
JUNK_PER_SECOND = 2
REASSIGN_EVERY_SECONDS = 10.0
"""Each time everybody who has an open task is charged for it again: more often, and nobody has earned anything."""
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
        configure_logging(settings.log_level)
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
        self._readings = app_readings(settings.topic_prefix, settings.group_prefix)
        self._ends = LogEndsReader(self._address)
        self._stop = asyncio.Event()
        self._traffic = Traffic()
        self._view = DemoView(live=live and sys.stderr.isatty())
        self._assigned = AssignmentFeed(self._address, settings.topic_prefix)
        self._day = (datetime.now(settings.zone) - timedelta(days=1)).date()
        self._company = Company(SEED, self._day, settings.zone)

    async def run(self) -> tuple[dict[str, Any], list[str]]:
        """Play the day; the summary and what is wrong."""
        self._stop_on_signals()
        async with open_demo_bank(self._settings.home, self._company.closed_accounts) as bank_url:
            return await self._run(self._settings.model_copy(update={"bank_url": SecretStr(bank_url)}))

    async def _run(self, settings: Settings) -> tuple[dict[str, Any], list[str]]:
        database = Database(settings.database)
        payday = compose(settings, pace=self._pace(database))
        await payday.app.start()
        tune_garbage_collection()
        try:
            with self._view:
                await self._join(payday)
                viewing = asyncio.create_task(self._show(database))
                await self._play(database, payday)
                settled = await self._drain(database)
                viewing.cancel()
                await asyncio.gather(viewing, return_exceptions=True)
            pay_day, differences = await _pay_day(payday, self._day)
            findings = [
                *settled,
                *differences,
                *await unread(database, self._readings, self._traffic.acknowledged),
                *await self._audit(database),
            ]
            counts = await read_counts(database)
        finally:
            await payday.app.stop()
            await self._ends.close()
            await self._assigned.close()
            await database.close()
        summary = {"sent": self._traffic.sent, **asdict(counts), **asdict(pay_day), "audit_ok": not findings}
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

    def _pace(self, database: Database) -> Pace:
        """Both writers, the company and the relay, wait for the groups: the embedded broker forgets what is unread."""

        async def found() -> Database:
            return database

        groups = [one.group for one in self._readings]
        return pace_of(self._settings, self._ends, found, always=groups, stall_seconds=None)

    async def _join(self, payday: Payday) -> None:
        async with asyncio.timeout(JOIN_TIMEOUT_SECONDS):
            while not payday.intake.joined:
                self._view.say("the groups are being given their partitions")
                await asyncio.sleep(TICK_SECONDS)

    async def _play(self, database: Database, payday: Payday) -> None:
        company = self._company
        source = random.Random(SEED)  # noqa: S311  a story, not a secret
        producer = Producer(producer_settings(self._address))
        pace = self._pace(database)
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
            if elapsed > (reassigned + 0.5) * REASSIGN_EVERY_SECONDS:
                reassigned += 1
                await self._send(producer, pace, [company.reassign()])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
        self._view.say("the day is over: everything under way is finished")
        await self._send(producer, pace, [company.let_somebody_go()])
        await self._settle(database)
        await self._send(producer, pace, [company.end_the_day()])
        await self._settle(database)
        self._view.say("everybody is paid; the bank knows some accounts as closed")
        await self._send(producer, pace, [company.pay_out()])
        await self._until_paid(payday)
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

    async def _until_paid(self, payday: Payday) -> None:
        """Wait for the run to be completed; one that is not is among the findings."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                while not await is_paid(payday, self._day):  # noqa: ASYNC110  the run is in the database
                    await asyncio.sleep(TICK_SECONDS)

    def _watch(self, database: Database) -> SettledWatch:
        return SettledWatch(database, self._ends, self._readings, group_prefix=self._settings.group_prefix, pays=True)

    async def _audit(self, database: Database) -> list[str]:
        found = await audit(database, settled=True, topic_prefix=self._settings.topic_prefix)
        return [f"{one.name}: {one.rows} rows break it: {one.holds}" for one in found.findings if one.rows]

    async def _show(self, database: Database) -> None:
        reported = time.monotonic()
        while True:
            counts = await read_counts(database)
            self._view.update(self._traffic.sent, counts)
            if time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                self._view.report(self._traffic.sent, counts)
            await asyncio.sleep(VIEW_SECONDS)


async def _pay_day(payday: Payday, period: date) -> tuple[PayDay, list[str]]:
    try:
        return await read_pay_day(payday, period)
    except BankError as error:
        return PayDay(), [f"the bank's report cannot be read: {error}"]
