"""The worker that asks the bank to pay: claim, call, write down.

Invariant: no transaction is open while the bank is called, and what a call found out is written down only if its claim
still is the latest one of the payout.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, assert_never

import structlog

from streams.intake.classify import Kind, classify
from streams.payouts.attempt import Confirmed, Failed, NotCalled, Review, Unanswered, attempt
from streams.payouts.checkpoints import Checkpoint, go_on
from streams.payouts.domain import PayoutState
from streams.payouts.outcomes import Later, Reversal, claim_due, put_off, put_under_review
from streams.payouts.store import lock_payouts
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.payouts.attempt import KeyLife, Verdict
    from streams.payouts.bank import Bank
    from streams.payouts.checkpoints import Hook
    from streams.payouts.domain import Payout
    from streams.payouts.outcomes import Outcomes
    from streams.storage.database import Database

__all__ = ["Dispatcher"]

log = structlog.get_logger(__name__)

CALLS_AT_ONCE = 64
LEASE_SECONDS = 60.0
"""How long a payout that is being sent waits for a worker that is not heard of; longer than asking and paying take."""
CALL_WITHIN_SECONDS = LEASE_SECONDS / 2
"""After its claim a payout is sent within this time or not at all: a process that was frozen has lost it by then."""
GATHER_SECONDS = 0.01
"""Answers that come so close together are written down in one transaction."""
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 2.0, 300.0
"""Between attempts at a payout whose outcome is unknown: doubles, with jitter."""
NOT_CALLED_SECONDS = 1.0
"""Until the next attempt where the bank was not reached and did not say when to try again."""
DRAIN_SECONDS = 5.0
IDLE_POLL_SECONDS = 1.0
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0

Found = tuple["Payout", "Verdict"]


class Dispatcher:
    """Sends payouts to the bank.

    Args:
        database: holds the payouts.
        bank: the provider.
        outcomes: writes down what was decided.
        life: of the bank's idempotency keys.
        holder: tells this process from others.
        wake_relay: called when something was written down.
        wake_runs: likewise: a run may be completed.
        calls_at_once: to the bank.
        passed: called at each checkpoint.
    """

    def __init__(
        self,
        database: Database,
        bank: Bank,
        outcomes: Outcomes,
        life: KeyLife,
        *,
        holder: str,
        wake_relay: Callable[[], None] = lambda: None,
        wake_runs: Callable[[], None] = lambda: None,
        calls_at_once: int = CALLS_AT_ONCE,
        passed: Hook = go_on,
    ) -> None:
        self._database = database
        self._bank = bank
        self._outcomes = outcomes
        self._life = life
        self._holder = holder
        self._wake_relay = wake_relay
        self._wake_runs = wake_runs
        self._calls_at_once = calls_at_once
        self._passed = passed
        self._random = random.Random()  # noqa: S311  spreads retries
        self._calls: dict[asyncio.Task[Verdict], Payout] = {}
        self._reached = True
        """Whether the bank was reached the last time; while it is not, one payout at a time finds out."""
        self._not_before = 0.0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There are new payouts: look now."""
        self._woken.set()

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Work in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="payout-dispatcher")

    async def stop(self) -> None:
        """Claim no more, and hear the calls under way out for `DRAIN_SECONDS`.

        What is cut off then is asked for by whoever claims it next.
        """
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._calls:
            with contextlib.suppress(Exception):  # then the claims run out by themselves
                done, _ = await asyncio.wait(self._calls, timeout=DRAIN_SECONDS)
                await self._record_done(done)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._calls.clear()

    async def run_until_idle(self) -> None:
        """Do all that is due now."""
        while await self.step():
            pass

    async def step(self) -> bool:
        """Claim, wait for answers, write them down; whether there is more to do now."""
        wanted = self._wanted()
        if wanted > 0:
            await self._claim(wanted)
        if not self._calls:
            return False
        await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(GATHER_SECONDS)
        await self._record_done({call for call in self._calls if call.done()})
        return True

    def _wanted(self) -> int:
        if time.monotonic() < self._not_before:
            return 0
        if not self._reached:
            return 0 if self._calls else 1
        free = self._calls_at_once - len(self._calls)
        return free if free >= self._calls_at_once // 2 else 0

    async def _claim(self, at_most: int) -> None:
        claimed_at = time.monotonic()
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            claimed = await claim_due(connection, self._holder, at_most, now_ms, round(LEASE_SECONDS * 1000))
        if claimed:
            self._passed(Checkpoint.SENDING_COMMITTED)

        def is_current() -> bool:
            return time.monotonic() - claimed_at < CALL_WITHIN_SECONDS

        for payout in claimed:
            call = attempt(self._bank, payout, self._life, now_ms, is_current=is_current)
            self._calls[asyncio.create_task(call, name=f"pay-{payout.payout_id}")] = payout

    async def _record_done(self, done: set[asyncio.Task[Verdict]]) -> None:
        found = [(self._calls.pop(call), _verdict_of(call)) for call in done]
        if not found:
            return
        self._passed(Checkpoint.BANK_ANSWERED)
        self._heed(found)
        try:
            await self._record(found)
        except Exception as error:
            if await classify(error, self._database) is not Kind.FAILURE:
                raise  # what was found out is lost here, and found out again once the claims have run out
            log.warning("outcomes could not be written down together", error=str(error))
            for one in found:
                await self._record_alone(one)
        self._wake_relay()
        self._wake_runs()

    def _heed(self, found: Sequence[Found]) -> None:
        """Leave a bank alone that is not to be called now."""
        waits = [verdict.retry_in_seconds for _payout, verdict in found if isinstance(verdict, NotCalled)]
        self._reached = len(waits) < len(found)
        if waits and not self._reached:
            self._not_before = time.monotonic() + max(*waits, NOT_CALLED_SECONDS)

    async def _record(self, found: Sequence[Found]) -> None:
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            held = {one.payout_id: one for one in await lock_payouts(connection, [one.payout_id for one, _ in found])}
            current = [one for one in found if _is_current(one[0], held.get(one[0].payout_id))]
            if len(current) < len(found):
                log.warning("answers came after their claims had run out", count=len(found) - len(current))
            await self._write(connection, current, now_ms)
            self._passed(Checkpoint.OUTCOMES_WRITTEN)
        self._passed(Checkpoint.OUTCOMES_COMMITTED)

    async def _record_alone(self, one: Found) -> None:
        try:
            await self._record([one])
        except Exception as error:
            if await classify(error, self._database) is not Kind.FAILURE:
                raise
            log.exception("an outcome cannot be written down", payout_id=one[0].payout_id)
            await self._record([(one[0], Review(f"{one[1]} could not be written down: {error}"))])

    async def _write(self, connection: AsyncConnection, found: Sequence[Found], now_ms: int) -> None:
        paid, reversals, later = [], [], []
        for payout, verdict in found:
            match verdict:
                case Confirmed(provider_ref):
                    paid.append((payout, provider_ref))
                case Failed(reason_code, provider_ref):
                    reversals.append(Reversal(payout, failed=True, reason_code=reason_code, provider_ref=provider_ref))
                case Unanswered(detail):
                    wait = self._retry_seconds(payout.unanswered)
                    later.append(Later(payout, now_ms + round(wait * 1000), answered=False, note=detail))
                case NotCalled(detail, retry_in_seconds):
                    wait = max(retry_in_seconds, NOT_CALLED_SECONDS)
                    later.append(Later(payout, now_ms + round(wait * 1000), answered=True, note=detail))
                case Review(note):
                    log.error("a payout needs a person", payout_id=payout.payout_id, note=note)
                    await put_under_review(connection, payout.payout_id, note)
                case _:
                    assert_never(verdict)
        await self._outcomes.confirm(connection, paid, now_ms)
        await put_off(connection, later)
        await self._outcomes.reverse(connection, reversals, now_ms)

    def _retry_seconds(self, unanswered: int) -> float:
        bound = min(FIRST_RETRY_SECONDS * 2.0 ** min(unanswered, 30), MAX_RETRY_SECONDS)
        return bound * self._random.uniform(0.5, 1.0)

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        while True:
            self._woken.clear()
            try:
                await self.run_until_idle()
            except Exception as error:  # the database is away or busy: what was claimed is claimed again later
                log.warning("dispatching waits", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), IDLE_POLL_SECONDS)


def _is_current(claimed: Payout, now: Payout | None) -> bool:
    """Whether a payout is still being sent by the claim that found something out."""
    return now is not None and now.state is PayoutState.SENDING and now.attempts == claimed.attempts


def _verdict_of(call: asyncio.Task[Verdict]) -> Verdict:
    """What a call found out; one that fell over has found out nothing."""
    if call.cancelled():
        return Unanswered("the call was cut off")
    error = call.exception()
    return call.result() if error is None else Unanswered(f"{type(error).__name__}: {error}")
