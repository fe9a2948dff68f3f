"""A worker dies at each named point of a payout; it, or another, goes on: exactly once, every amount exact."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import httpx
import pytest

from streams.embedded.bank import Bank
from streams.embedded.bank_faults import Faults
from streams.embedded.bank_store import BankStore
from streams.http.server import HttpServer
from streams.payouts.checkpoints import Checkpoint
from streams.payouts.domain import RunStatus, Trigger
from tests.chaos.payout_processes import Started, Worker, start
from tests.chaos.payout_verdict import differences
from tests.conformance.conftest import database, database_url, open_database
from tests.unit.payouts.world import P1, World, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from streams.storage.database import Database

__all__ = ["database", "database_url", "open_database"]

UNCOMMITTED = (Checkpoint.CHUNK_HALF_WRITTEN, Checkpoint.CHUNK_WRITTEN, Checkpoint.OUTCOMES_WRITTEN)
"""Where it is the database that forgets what was begun."""
ACCOUNTS, REFUSED = 40, 3
PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.02


@pytest.fixture
def kind() -> str:
    """The kind of database, where a test names none."""
    return "postgresql"


class Rig:
    """A deployment with something to pay, a bank, and workers that are real processes."""

    def __init__(self, world: World, bank_url: str, book: Path, template: Worker) -> None:
        self.world = world
        self.bank_url = bank_url
        self.book = book
        self.template = template
        self.started: list[Started] = []

    def start(self, **changes: object) -> Started:
        """Start a worker."""
        self.started.append(start(replace(self.template, **changes)))  # type: ignore[arg-type]
        return self.started[-1]

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Look until something holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await holds():
            assert time.monotonic() < deadline, f"{what}\n{self.template.log.read_text()[-3000:]}"
            await asyncio.sleep(LOOK_SECONDS)

    async def until_completed(self) -> None:
        """Wait for the run."""

        async def completed() -> bool:
            report = await self.world.runs.report(P1)
            return report is not None and report.status is RunStatus.COMPLETED

        await self.until(completed, "the run is completed")

    async def assert_exact(self) -> None:
        """Everybody was paid what they were owed, once; the refused have it back."""
        rows = await self.world.payouts()
        assert {row.worker_id: row.amount_minor for row in rows} == {worker(n): 1000 + n for n in range(ACCOUNTS)}
        refused = {worker(number) for number in range(REFUSED)}
        assert {row.worker_id for row in rows if row.state == "reversed"} == refused
        assert {row.state for row in rows if row.worker_id not in refused} == {"confirmed"}
        assert await differences(self.world, self.book, self.bank_url, [P1]) == []


@asynccontextmanager
async def opened_bank(book: Path, **faults: object) -> AsyncIterator[tuple[str, BankStore]]:
    """A simulated bank on loopback that refuses a few accounts."""
    store = BankStore(book)
    refuse = [worker(number) for number in range(REFUSED)]
    set_to = Faults.model_validate({"refuse_accounts": refuse, **faults})
    server = HttpServer(Bank(store, key_life_seconds=60 * 86_400, faults=set_to).app(), "127.0.0.1", 0)
    server.start()
    try:
        yield server.url, store
    finally:
        await server.stop()
        store.close()


@asynccontextmanager
async def opened(database: Database, tmp_path: Path, **faults: object) -> AsyncIterator[tuple[Rig, BankStore]]:
    """A run that is registered, and nobody who works on it yet."""
    world = World(database)
    await world.open_accounts(ACCOUNTS, lambda number: 1000 + number)
    await world.runs.register(P1, Trigger.CLI)
    book = tmp_path / "bank.db"
    async with opened_bank(book, **faults) as (url, store):
        url_of_database = database.url.render_as_string(hide_password=False)
        template = Worker(url_of_database, url, tmp_path / "workers.log", lease_seconds=0.5, chunk_accounts=3)
        rig = Rig(world, url, book, template)
        try:
            yield rig, store
        finally:
            for one in rig.started:
                one.kill()


@pytest.mark.parametrize(("kind", "point"), [*product(["postgresql"], Checkpoint), *product(["sqlite"], UNCOMMITTED)])
async def test_kill_9_at_a_named_point(database: Database, tmp_path: Path, point: Checkpoint) -> None:
    """When it comes by for the second time. Whoever goes on is another: a process that starts again is not known."""
    async with opened(database, tmp_path) as (rig, _store):
        dying = rig.start(strike_at=point, after_passes=2 if point is not Checkpoint.SENDING_COMMITTED else 1)
        await dying.ended()
        assert dying.exit_signal == signal.SIGKILL
        rig.start()
        await rig.until_completed()
        await rig.assert_exact()


async def test_kill_9_after_the_bank_has_booked_and_before_it_has_answered(database: Database, tmp_path: Path) -> None:
    """Whoever takes over asks with the same key and hears of the same booking."""
    async with opened(database, tmp_path, reply_delay_seconds=2.0) as (rig, store):
        dying = rig.start()

        async def booked() -> bool:
            return bool(store.moved(str(P1), 0, 1))

        await rig.until(booked, "the bank has booked")
        dying.kill()
        assert "confirmed" not in {row.state for row in await rig.world.payouts()}
        async with httpx.AsyncClient(base_url=rig.bank_url) as client:
            await client.put("/faults", json={"refuse_accounts": [worker(number) for number in range(REFUSED)]})
        rig.start()
        await rig.until_completed()
        await rig.assert_exact()


@pytest.mark.parametrize("point", [Checkpoint.SHARD_CLAIMED, Checkpoint.CHUNK_COMMITTED, Checkpoint.SENDING_COMMITTED])
async def test_a_worker_that_is_frozen_past_its_lease_and_woken(
    database: Database, tmp_path: Path, point: Checkpoint
) -> None:
    """Another has done its work meanwhile; what the frozen one still wanted to do is refused or has been done."""
    async with opened(database, tmp_path) as (rig, store):
        if point is Checkpoint.SENDING_COMMITTED:  # frozen in the middle of a chunk, it would hold its locks
            await rig.world.reserver.run_until_idle()
        frozen = rig.start(strike_at=point, strike_with=signal.SIGSTOP)

        async def stands_still() -> bool:
            return frozen.is_frozen

        await rig.until(stands_still, "it has frozen itself")
        rig.start()
        await rig.until_completed()
        calls = store.moved(str(P1), 0, 1000)
        frozen.thaw()
        await asyncio.sleep(1.0)  # what it would do wrong, it would do now
        assert frozen.runs
        assert store.moved(str(P1), 0, 1000) == calls
        await rig.assert_exact()


async def test_a_bank_that_is_down_for_the_whole_run(database: Database, tmp_path: Path) -> None:
    """Everything is reserved and waits; a worker that dies meanwhile changes nothing; then everybody is paid."""
    async with opened(database, tmp_path, down=True) as (rig, _store):
        first = rig.start()

        async def waiting() -> bool:
            rows = await rig.world.payouts()
            return len(rows) == ACCOUNTS and any(row.attempts for row in rows)

        await rig.until(waiting, "everything is reserved, and something was tried")
        first.kill()
        assert not {row.state for row in await rig.world.payouts()} & {"confirmed", "reversed", "manual-review"}
    async with opened_bank(rig.book) as (url, _store):
        rig.bank_url = url
        late = start(replace(rig.template, bank_url=url))
        await rig.until_completed()
        late.kill()
        await rig.assert_exact()


async def test_clocks_that_are_a_day_off(database: Database, tmp_path: Path) -> None:
    """One worker's is behind, another's ahead: leases and due times are the database's, and each is paid once."""
    async with opened(database, tmp_path) as (rig, _store):
        for days in (-1, 1):
            rig.start(clock_off_seconds=days * 86_400)
        await rig.until_completed()
        await rig.assert_exact()
