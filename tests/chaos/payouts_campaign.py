"""A seeded random campaign against payouts: processes are killed and frozen, the bank dies, others post meanwhile.

    python -m tests.chaos.payouts_campaign [--kills 200] [--accounts 20000] [--seed N]    (or: make chaos)

Several runs of several days, worked on by processes with wrong clocks that are killed at random times and at named
points, on PostgreSQL, with a simulated bank in a process of its own that loses replies, fails, refuses some accounts
and is killed as well. At the end the raw rows of ledger, payouts, outbox and bank must agree: each account was paid
exactly what it was owed at each close, once. The seed draws what happens; when it strikes is a matter of the machine,
so a seed repeats the campaign, not the schedule.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.cli.output import work_in_progress
from streams.payouts.checkpoints import Checkpoint
from streams.payouts.domain import RunStatus, Trigger
from streams.storage.database import Database
from tests.chaos.payout_processes import Poster, Started, Worker, start
from tests.chaos.payout_verdict import differences
from tests.integration.processes import Home, RunningProcess
from tests.services.process import free_port
from tests.services.services import Services
from tests.unit.payouts.world import TODAY, World, worker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Plan", "Report", "run_campaign"]

DAYS = 25
"""So many days are there to be paid, one run after the other."""
RUN_SECONDS_MAX = 3_600.0
CHAOS_SECONDS = 0.02
TELL_SECONDS = 10.0
"""Between lines on standard error, where that is no terminal."""
BETWEEN_BLOWS_SECONDS = 0.5
LEASE_SECONDS = 2.0
FREEZE_SECONDS = (0.3, 3 * LEASE_SECONDS)
"""The longer ones outlast the leases of shards, and those of payouts, which are twice as long."""
KEY_LIFE_SECONDS = 60 * 86_400
BELIEVED_KEY_LIVES_SECONDS = (KEY_LIFE_SECONDS, 40 * 86_400)
"""With the first a worker trusts in keys alone, with the second it asks before it pays the older days."""
REFUSED = 20
CLOCKS_OFF_SECONDS = (-86_400, 0, 86_400)
PASSES_MAX = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played.

    Attributes:
        seed: draws it.
        kills: at least so many workers die before the last run is left alone.
        accounts: that are there at the beginning.
        workers, posters: processes at a time.
    """

    seed: int
    kills: int
    accounts: int
    workers: int = 3
    posters: int = 1


@dataclass(slots=True)
class Report:
    """What happened, and what is wrong."""

    seed: int
    accounts: int
    kills: int = 0
    killed_at_random: int = 0
    killed_at_a_point: dict[str, int] = field(default_factory=dict)
    ended_otherwise: int = 0
    frozen: int = 0
    bank_killed: int = 0
    runs: int = 0
    payouts: int = 0
    accounts_paid: int = 0
    states: dict[str, int] = field(default_factory=dict)
    paid_minor: int = 0
    postings_meanwhile: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


class _Bank:
    """`payday bank` as a process that can die and come back at the same address with the same book."""

    def __init__(self, directory: Path, seed: int) -> None:
        directory.mkdir()
        self._home = Home(directory)
        self._port = free_port()
        self.book = directory / "book.db"
        refused = json.dumps([worker(number) for number in range(REFUSED)])
        faults = (
            "drop_reply=0.02",
            "fail_after=0.02",
            "fail_before=0.02",
            f"seed={seed}",
            f"refuse_accounts={refused}",
        )
        self._faults = [part for fault in faults for part in ("--fail", fault)]
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: RunningProcess

    def start(self) -> None:
        """Start it, or start it again; its first line comes when it answers."""
        place = ("--port", str(self._port), "--file", str(self.book), "--key-life", str(KEY_LIFE_SECONDS))
        keys_alone = "--no-unique-references"  # nothing but the idempotency key keeps it from paying twice
        self.process = self._home.start("bank", *place, keys_alone, *self._faults)

    def close(self) -> None:
        """End it."""
        self._home.__exit__()


class _Campaign:
    def __init__(self, plan: Plan, database_url: str, bank: _Bank, log: Path) -> None:
        self._plan = plan
        self._url = database_url
        self._bank = bank
        self._log = log
        self._random = random.Random(plan.seed)
        self._days = [TODAY - timedelta(days=back) for back in range(DAYS, 0, -1)]
        self._workers: list[Started] = []
        self._posters: list[Started] = []
        self._next_blow = 0.0
        self.report = Report(plan.seed, plan.accounts)

    async def run(self, show: Callable[[int, int | None], None]) -> Report:
        """Play it."""
        started = time.monotonic()
        world = World(Database(self._url))
        triggers = [world, world.another("two"), world.another("three")]
        try:
            first = self._days[0]
            await world.open_accounts(
                self._plan.accounts, lambda _n: self._random.randrange(-2_000, 20_000) or 1, first
            )
            self._posters = [self._start_poster(number) for number in range(self._plan.posters)]
            self._workers = [self._start_worker() for _ in range(self._plan.workers)]
            for day in self._days:
                await self._run_of(triggers, day, show)
                if self.report.kills >= self._plan.kills:
                    break
            await self._judge(world, self._days[: self.report.runs])
        finally:
            for one in (*self._workers, *self._posters):
                one.kill()
            for one_world in triggers:
                await one_world.database.close()
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report

    async def _run_of(self, triggers: list[World], day: date, show: Callable[[int, int | None], None]) -> None:
        """Three triggers at once, then blows until the run is completed; none once enough were dealt."""
        kinds = (Trigger.CLI, Trigger.HTTP, Trigger.SCHEDULE)
        await asyncio.gather(*(one.runs.register(day, kind) for one, kind in zip(triggers, kinds, strict=True)))
        self.report.runs += 1
        deadline = time.monotonic() + RUN_SECONDS_MAX
        look_at = tell_at = 0.0
        while True:
            self._reap()
            if self.report.kills < self._plan.kills:
                self._deal_blows()
            else:
                self._let_be()
            show(min(self.report.kills, self._plan.kills), self._plan.kills)
            if time.monotonic() >= look_at:
                if not sys.stderr.isatty() and time.monotonic() >= tell_at:
                    tell_at = time.monotonic() + TELL_SECONDS
                    print(f"{self.report.kills} kills, run {self.report.runs}", file=sys.stderr, flush=True)
                report = await triggers[0].runs.report(day)
                assert report is not None, "it was registered"
                if report.status is RunStatus.COMPLETED:
                    return
                assert time.monotonic() < deadline, f"{report}\n{self._log.read_text()[-5000:]}"
                look_at = time.monotonic() + 10 * CHAOS_SECONDS
            await asyncio.sleep(CHAOS_SECONDS)

    def _reap(self) -> None:
        """Put another worker in the place of each that has ended, and wake those whose freeze is over."""
        for place, one in enumerate(self._workers):
            if not one.runs:
                assert isinstance(one.role, Worker), "posters are not in this list"
                if one.exit_signal is None or one.role.strike_at is None:
                    self.report.ended_otherwise += 1
                else:
                    self.report.kills += 1
                    point = one.role.strike_at.value
                    self.report.killed_at_a_point[point] = self.report.killed_at_a_point.get(point, 0) + 1
                self._workers[place] = self._start_worker()
            elif one.thaw_at is not None and time.monotonic() >= one.thaw_at:
                one.thaw()
        self._posters = [one if one.runs else self._start_poster(number) for number, one in enumerate(self._posters)]
        if not self._bank.process.runs:
            self._bank.start()

    def _deal_blows(self) -> None:
        """Strike those who are at work, at random intervals."""
        now = time.monotonic()
        if now < self._next_blow:
            return
        self._next_blow = now + self._random.expovariate(1 / BETWEEN_BLOWS_SECONDS)
        at_work = [place for place, one in enumerate(self._workers) if one.works]
        if not at_work:
            return
        place = self._random.choice(at_work)
        one = self._workers[place]
        blow = self._random.choices(["kill", "freeze", "bank", "poster"], [60, 30, 3, 7])[0]
        if blow == "kill":
            one.kill()
            self.report.kills += 1
            self.report.killed_at_random += 1
            self._workers[place] = self._start_worker()
        elif blow == "freeze" and one.thaw_at is None:
            one.freeze()
            one.thaw_at = now + self._random.uniform(*FREEZE_SECONDS)
            self.report.frozen += 1
        elif blow == "bank":
            self._bank.process.kill()
            self.report.bank_killed += 1
        elif blow == "poster" and self._posters:
            self._random.choice(self._posters).kill()

    def _let_be(self) -> None:
        """Nobody is frozen or about to die any more."""
        for place, one in enumerate(self._workers):
            assert isinstance(one.role, Worker), "posters are not in this list"
            if one.role.strike_at is not None or one.thaw_at is not None:
                one.kill()
                self._workers[place] = self._start_worker(dying=False)

    def _start_worker(self, *, dying: bool = True) -> Started:
        """Every other one dies by itself, at a named point; the rest is left to chance."""
        strike_at = self._random.choice(list(Checkpoint)) if dying and self._random.random() < 1 / 2 else None
        return start(
            Worker(
                self._url,
                self._bank.url,
                self._log,
                strike_at,
                after_passes=self._random.randrange(1, PASSES_MAX),
                lease_seconds=LEASE_SECONDS,
                key_life_seconds=self._random.choice(BELIEVED_KEY_LIVES_SECONDS),
                chunk_accounts=self._random.choice([5, 20, 100]),
                clock_off_seconds=self._random.choice(CLOCKS_OFF_SECONDS),
            )
        )

    def _start_poster(self, number: int) -> Started:
        seed = self._plan.seed * 1_000 + number
        accounts = self._plan.accounts + self._plan.accounts // 50 + 1  # some open later
        return start(Poster(self._url, self._log, seed, accounts, tuple(self._days)))

    async def _judge(self, world: World, days: list[date]) -> None:
        for one in self._posters:
            one.kill()
        for one in self._workers:
            one.kill()
        if not self._bank.process.runs:
            self._bank.start()
        await asyncio.to_thread(self._bank.process.wait_for_first_line, 30)
        report = self.report
        rows = await world.payouts()
        report.payouts, report.accounts_paid = len(rows), len({row.worker_id for row in rows})
        report.states = dict(Counter(row.state for row in rows))
        report.paid_minor = sum(row.amount_minor for row in rows if row.state == "confirmed")
        report.postings_meanwhile = await _postings(world) - self._plan.accounts
        report.differences = await differences(world, self._bank.book, self._bank.url, days)


async def _postings(world: World) -> int:
    from sqlalchemy import text  # noqa: PLC0415  one count

    async with world.database.read() as connection:
        counted = await connection.execute(text("SELECT COUNT(*) FROM ledger_transfer WHERE kind = 'adjustment'"))
        return int(counted.scalar_one())


def run_campaign(plan: Plan, database_url: str, directory: Path, *, quiet: bool = False) -> Report:
    """Play a campaign.

    Args:
        plan: what.
        database_url: a fresh PostgreSQL database with every table.
        directory: an empty one, for the bank's book and what the processes say.
        quiet: no progress bar.
    """
    bank = _Bank(directory / "bank", plan.seed)
    try:
        bank.start()
        bank.process.wait_for_first_line(30)
        campaign = _Campaign(plan, database_url, bank, directory / "processes.log")
        with work_in_progress("kills", plan.kills, quiet=quiet) as show:
            return asyncio.run(campaign.run(show))
    finally:
        bank.close()


def _print(report: Report) -> None:
    values: dict[str, Any] = asdict(report)
    wrong = values.pop("differences")
    for name, value in values.items():
        print(f"{name.replace('_', ' '):20} {json.dumps(value) if isinstance(value, dict) else value}")
    print(f"{'differences':20} {len(wrong)}")
    for line in wrong:
        print(f"  {line}")


def main(arguments: list[str]) -> int:
    """Play a campaign on a PostgreSQL of its own, and print its report; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description="kill and freeze payout workers, then compare every book")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--workers", type=int, default=3)
    options = parser.parse_args(arguments)
    plan = Plan(options.seed, options.kills, options.accounts, options.workers, posters=2)
    print(f"seed {plan.seed}", flush=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="payday-campaign-")))
        services = Services.of_environment()
        stack.callback(services.close)
        report = run_campaign(plan, services.postgres.fresh_database(), directory)
        _print(report)
    return 1 if report.differences or report.ended_otherwise else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
