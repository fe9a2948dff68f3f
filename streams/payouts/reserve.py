"""The worker that takes what is owed from the accounts, a bounded chunk of them per transaction.

Invariant: a chunk's payouts, postings, events and cursor are one transaction, which has seen that its shard still is
this worker's; so each account of a run is looked at exactly once, whoever freezes, dies or wakes up again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

import structlog

from contracts.payouts import PayoutRequested
from streams.intake.classify import Kind, classify
from streams.ledger.domain import Posting, book_posting
from streams.ledger.store import insert_transfers, share_book
from streams.outbox.store import append
from streams.payouts import shards
from streams.payouts.checkpoints import Checkpoint, go_on
from streams.payouts.domain import Payout, PayoutCause, PayoutState, event_of, payout_id_of, reserve_ref
from streams.payouts.shards import ShardLost
from streams.payouts.store import insert_payouts, load_run
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.ledger.domain import Book, BusinessCalendar, Transfer
    from streams.outbox.envelope import OutgoingMessage
    from streams.payouts.announcer import Announcer
    from streams.payouts.checkpoints import Hook
    from streams.payouts.domain import Run
    from streams.payouts.runs import Runs
    from streams.payouts.shards import Owed, Shard
    from streams.storage.database import Database

__all__ = ["Reserver"]

log = structlog.get_logger(__name__)

CHUNK_ACCOUNTS_SQLITE, CHUNK_ACCOUNTS_POSTGRESQL = 100, 500
"""Accounts in one transaction. An SQLite file has one writer at a time, so its chunks are short."""
PAUSE_SECONDS_SQLITE = 0.005
"""Between chunks: lets other writers of an SQLite file have their turn."""
LEASE_SECONDS = 30.0
"""How long a shard waits for a worker that is not heard of. Each chunk begins it anew."""
FAILURES_IN_A_ROW_MAX = 20
"""So many accounts that fail without a payout between them are no accident of the accounts: the run waits."""
IDLE_POLL_SECONDS = 1.0
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0
ERROR_MAX_CHARACTERS = 500


class ReservingFails(Exception):
    """Nobody can be paid, for a reason that lies in the software or the database: the run waits and tries again."""


class _Done(NamedTuple):
    """What a chunk did: how many payouts it made, and whether there is more in the shard."""

    payouts: int
    more: bool


class Reserver:
    """Sees runs through up to the point where everything is reserved, and notices when they are completed.

    Args:
        database: holds the accounts.
        runs: which it moves on.
        calendar: the deployment's.
        announce: makes the events.
        holder: tells this process from others.
        wake_relay: called after each chunk.
        wake_dispatcher: likewise.
        chunk_accounts: accounts per transaction; by default what suits the database.
        passed: called at each checkpoint.
    """

    def __init__(
        self,
        database: Database,
        runs: Runs,
        calendar: BusinessCalendar,
        announce: Announcer,
        *,
        holder: str,
        wake_relay: Callable[[], None] = lambda: None,
        wake_dispatcher: Callable[[], None] = lambda: None,
        chunk_accounts: int | None = None,
        passed: Hook = go_on,
    ) -> None:
        self._database = database
        self._runs = runs
        self._calendar = calendar
        self._announce = announce
        self._holder = holder
        self._wake_relay = wake_relay
        self._wake_dispatcher = wake_dispatcher
        self._passed = passed
        default = CHUNK_ACCOUNTS_SQLITE if database.is_sqlite else CHUNK_ACCOUNTS_POSTGRESQL
        self._chunk_accounts = chunk_accounts or default
        self._pause_seconds = PAUSE_SECONDS_SQLITE if database.is_sqlite else 0.0
        self._failures_in_a_row = 0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something has changed: look now."""
        self._woken.set()

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Work in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="payout-reserver")

    async def stop(self) -> None:
        """Stop between two steps and give back what was claimed."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(Exception):  # then the lease ends by itself
            async with self._database.write() as connection:
                await shards.release(connection, self._holder)

    async def run_until_idle(self) -> None:
        """Do all that can be done now."""
        while await self.step():
            pass

    async def step(self) -> bool:
        """Move runs on, then work on one shard to its end; whether there was anything to do."""
        moved = await self._runs.advance()
        shard = await self.claim()
        if shard is None:
            return moved
        self._passed(Checkpoint.SHARD_CLAIMED)
        log.debug("reserving", period=str(shard.period), shard=shard.shard, fence=shard.fence)
        try:
            while await self.work_on(shard):  # noqa: ASYNC110  not waiting for anything: making room for other writers
                await asyncio.sleep(self._pause_seconds)
        except ShardLost as lost:
            log.warning("another worker goes on with a shard", detail=str(lost))
        return True

    async def claim(self) -> Shard | None:
        """A shard that nobody works on."""
        async with self._database.read() as connection:
            if not await shards.any_free(connection, self._holder, await database_time_ms(connection)):
                return None
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            return await shards.claim(connection, self._holder, now_ms, round(LEASE_SECONDS * 1000))

    async def work_on(self, shard: Shard) -> bool:
        """Reserve the next chunk of a shard; whether there is more in it.

        Raises:
            ShardLost: another worker has taken it over.
            ReservingFails: every account fails.
            StorageError: the database cannot be used.
        """
        try:
            done = await self._chunk(shard, self._chunk_accounts)
        except ShardLost:
            raise
        except Exception as error:
            if await classify(error, self._database) is not Kind.FAILURE:
                raise
            log.warning("a chunk failed; going on account by account", period=str(shard.period), error=str(error))
        else:
            self._count(done)
            return done.more
        return await self._one_by_one(shard)

    def _count(self, done: _Done) -> None:
        if done.payouts:
            self._failures_in_a_row = 0

    async def _chunk(self, shard: Shard, at_most: int) -> _Done:
        payouts = 0
        async with self._database.write() as connection:
            cursor = await shards.check_fence(connection, shard)
            book = await share_book(connection)
            accounts = await shards.lock_accounts(connection, shard, cursor, at_most)
            self._passed(Checkpoint.ACCOUNTS_LOCKED)
            now_ms = await database_time_ms(connection)
            if accounts:
                run = await load_run(connection, shard.period)
                assert run is not None, "a shard belongs to a run"
                owed = await shards.accounts_owed(connection, shard.period, cursor, accounts[-1])
                payouts = await self._reserve(connection, run, book, owed, now_ms)
            finished = len(accounts) < at_most
            await shards.move_cursor(
                connection,
                shard,
                accounts[-1] if accounts else cursor,
                accounts=len(accounts),
                finished=finished,
                now_ms=now_ms,
                lease_ms=round(LEASE_SECONDS * 1000),
            )
            self._passed(Checkpoint.CHUNK_WRITTEN)
        self._passed(Checkpoint.CHUNK_COMMITTED)
        if accounts:
            self._wake_relay()
            self._wake_dispatcher()
        return _Done(payouts, not finished)

    async def _reserve(self, connection: AsyncConnection, run: Run, book: Book, owed: list[Owed], now_ms: int) -> int:
        """Take what is owed from each account that is owed something; how many they were."""
        payouts: list[Payout] = []
        transfers: list[Transfer] = []
        messages: list[OutgoingMessage] = []
        for account, closing_minor in owed:
            if closing_minor <= 0:
                continue
            payout = self._payout(run, account.worker_id, closing_minor)
            cause = PayoutCause.of(payout, self._calendar)
            posting = Posting(
                account.worker_id,
                "payout",
                -closing_minor,
                reserve_ref(payout.payout_id),
                payout_id=payout.payout_id,
                period=run.period,
            )
            booked = book_posting(account, posting, cause, self._calendar, book)
            payouts.append(payout)
            transfers.append(booked.transfer)
            requested = event_of(PayoutRequested, payout)
            messages.append(self._announce(requested, run.origin, cause.derive("payout-requested")))
            applied = cause.derive(f"applied/{posting.source_ref}")
            messages.append(self._announce(booked.event, run.origin, applied))
        await insert_payouts(connection, payouts, now_ms)
        await shards.take_from_accounts(connection, [(one.worker_id, one.amount_minor) for one in payouts])
        self._passed(Checkpoint.CHUNK_HALF_WRITTEN)
        await insert_transfers(connection, transfers, now_ms)
        await append(connection, messages, now_ms)
        return len(payouts)

    def _payout(self, run: Run, worker_id: str, amount_minor: int) -> Payout:
        return Payout(
            payout_id_of(run.period, worker_id),
            worker_id,
            run.period,
            1,
            amount_minor,
            self._calendar.currency,
            PayoutState.REQUESTED,
            run.origin,
            sendable_since_ms=self._calendar.end_of(run.period),
        )

    async def _one_by_one(self, shard: Shard) -> bool:
        """A chunk's accounts, each in a transaction of its own; the one that fails is set aside."""
        for _ in range(self._chunk_accounts):
            if self._failures_in_a_row >= FAILURES_IN_A_ROW_MAX:
                self._failures_in_a_row -= 1  # one more is tried next time
                raise ReservingFails(f"{FAILURES_IN_A_ROW_MAX} accounts in a row could not be paid")
            try:
                done = await self._chunk(shard, 1)
            except ShardLost:
                raise
            except Exception as error:
                if await classify(error, self._database) is not Kind.FAILURE:
                    raise
                self._failures_in_a_row += 1
                await self._set_aside(shard, error)
                continue
            self._count(done)
            if not done.more:
                return False
            await asyncio.sleep(self._pause_seconds)
        return True

    async def _set_aside(self, shard: Shard, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}".replace("\x00", "")[:ERROR_MAX_CHARACTERS]
        async with self._database.write() as connection:
            cursor = await shards.check_fence(connection, shard)
            accounts = await shards.lock_accounts(connection, shard, cursor, 1)
            now_ms = await database_time_ms(connection)
            for worker_id in accounts:
                await shards.set_aside(connection, shard.period, worker_id, text, now_ms)
                await shards.move_cursor(
                    connection,
                    shard,
                    worker_id,
                    accounts=1,
                    finished=False,
                    now_ms=now_ms,
                    lease_ms=round(LEASE_SECONDS * 1000),
                )
        log.error("an account cannot be paid", period=str(shard.period), accounts=accounts, error=text)

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            self._woken.clear()
            try:
                await self.run_until_idle()
            except Exception as error:  # the database is away or busy, or nothing works: the chunk left no trace
                log.warning("reserving waits", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), IDLE_POLL_SECONDS)
