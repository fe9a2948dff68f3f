"""Processes that reserve, dispatch and post, made to be killed and frozen: real ones, forked in milliseconds.

A fork server imports the software once; each process is a fork of it, with connections of its own and none of anybody
else. What a process says goes to a file.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from streams.catalog import ContractCatalog
from streams.payouts import dispatch, reserve
from streams.payouts.checkpoints import Checkpoint, Hook
from streams.payouts.http_bank import HttpBank
from streams.payouts.service import Payouts
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker
from streams.storage.database import Database
from streams.storage.errors import is_contention
from tests.unit.payouts.world import CALENDAR, World

if TYPE_CHECKING:
    from datetime import date
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.synchronize import Event
    from pathlib import Path

__all__ = ["Poster", "Started", "Worker", "start"]

END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Worker:
    """An instance that reserves and dispatches.

    Attributes:
        database_url, bank_url: where.
        log: what it says is appended here.
        strike_at, after_passes, strike_with: it sends itself a signal when it passes a checkpoint so many times.
        lease_seconds: of shards; that of payouts being sent is twice as long.
        retry_seconds: until the first retry of a payout without an answer.
        key_life_seconds: what it believes of the bank.
        chunk_accounts: that are reserved in one transaction.
        calls_at_once: to the bank.
        clock_off_seconds: by how much the clock of its process is wrong.
    """

    database_url: str
    bank_url: str
    log: Path
    strike_at: Checkpoint | None = None
    after_passes: int = 1
    strike_with: signal.Signals = signal.SIGKILL
    lease_seconds: float = 1.0
    retry_seconds: float = 0.2
    key_life_seconds: float = 40 * 86_400.0
    chunk_accounts: int | None = None
    clock_off_seconds: int = 0

    def run(self, at_work: Event) -> None:
        """Work until killed; tell when the first checkpoint is passed."""
        reserve.LEASE_SECONDS = self.lease_seconds
        dispatch.LEASE_SECONDS = 2 * self.lease_seconds
        dispatch.CALL_WITHIN_SECONDS = self.lease_seconds
        dispatch.FIRST_RETRY_SECONDS = self.retry_seconds
        dispatch.MAX_RETRY_SECONDS = 10 * self.retry_seconds
        _shift_clock(self.clock_off_seconds)
        asyncio.run(self._work(at_work))

    async def _work(self, at_work: Event) -> None:
        breaker = CircuitBreaker(time.monotonic, BreakerLimits(consecutive_failures=None))
        payouts = Payouts(
            Database(self.database_url),
            ContractCatalog(),
            CALENDAR,
            topic_prefix="",
            accounting_group="payday.accounting",
            bank=HttpBank(self.bank_url, breaker),
            key_life_seconds=self.key_life_seconds,
            chunk_accounts=self.chunk_accounts,
            passed=self._hook(at_work),
        )
        payouts.start()
        await asyncio.Event().wait()

    def _hook(self, at_work: Event) -> Hook:
        left = self.after_passes

        def passed(checkpoint: Checkpoint) -> None:
            nonlocal left
            if not at_work.is_set():
                at_work.set()
            if checkpoint is self.strike_at:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), self.strike_with)

        return passed


@dataclass(frozen=True, slots=True)
class Poster:
    """An instance that posts to accounts, some of which do not exist yet.

    Attributes:
        database_url: where.
        log: what it says is appended here.
        seed: draws what it posts.
        accounts: it posts to workers below this number.
        days: the business days it posts for.
    """

    database_url: str
    log: Path
    seed: int
    accounts: int
    days: tuple[date, ...]

    def run(self, at_work: Event) -> None:
        """Post until killed."""
        at_work.set()
        asyncio.run(self._post())

    async def _post(self) -> None:
        source = random.Random(self.seed)
        world = World(Database(self.database_url), holder=f"poster-{self.seed}-{os.getpid()}")
        while True:
            number, amount, day = source.randrange(self.accounts), _amount(source), source.choice(self.days)
            try:
                await world.earn(number, amount, day)
            except Exception as error:
                if not is_contention(error):
                    raise
            await asyncio.sleep(source.expovariate(300))


def _amount(source: random.Random) -> int:
    return source.choice([-1, 1, 1, 1]) * source.randrange(1, 5_000)


def _shift_clock(seconds: int) -> None:
    """Make this process believe in another time. What counts is the database's, so that nothing may change by it."""
    if seconds:
        real, real_ns = time.time, time.time_ns
        time.time = lambda: real() + seconds
        time.time_ns = lambda: real_ns() + seconds * 1_000_000_000


class Started:
    """A process that was started.

    Args:
        process: the fork.
        role: what it is.
        at_work: set once it has done something.
    """

    def __init__(self, process: ForkServerProcess, role: Worker | Poster, at_work: Event) -> None:
        self.role = role
        self._at_work = at_work
        self._process = process
        self.thaw_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    @property
    def works(self) -> bool:
        """Whether it runs and has done something: killed before, it would show nothing."""
        return self._at_work.is_set() and self.runs

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped."""
        try:
            return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended it; None while it runs or where it ended otherwise."""
        code = self._process.exitcode
        return -code if code is not None and code < 0 else None

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.kill()
        self._process.join(END_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.thaw_at = None

    async def ended(self, timeout_seconds: float = END_SECONDS) -> None:
        """Wait for its end.

        Raises:
            TimeoutError: it goes on.
        """
        await asyncio.to_thread(self._process.join, timeout_seconds)
        if self._process.exitcode is None:
            raise TimeoutError(self.role.log.read_text()[-2000:])

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, number)


_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.chaos.payout_processes"])


def start(role: Worker | Poster) -> Started:
    """Start a process. It ends with this one."""
    at_work = _forks.Event()
    process = _forks.Process(target=_run, args=(role, at_work), daemon=True)
    process.start()
    return Started(process, role, at_work)


def _run(role: Worker | Poster, at_work: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with role.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    role.run(at_work)
