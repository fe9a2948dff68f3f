"""Whether everybody was paid exactly once and exactly: the raw rows of ledger, payouts, outbox and bank compared."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from streams.inspection.audit import audit
from streams.payouts.http_bank import HttpBank
from streams.payouts.outcomes import Outcomes
from streams.payouts.reconcile import Reconciler
from streams.resilience.circuit_breaker import CircuitBreaker
from tests.unit.payouts.world import CALENDAR, World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

__all__ = ["differences"]

SHOWN = 5

OWED = """
    SELECT worker_id, SUM(signed_minor) FROM ledger_transfer
    WHERE worker_id IS NOT NULL AND period <= :period AND NOT (kind = 'payout' AND period = :period)
    GROUP BY worker_id HAVING SUM(signed_minor) > 0
"""
"""What the run of a period had to pay: all that counts for it or an earlier one, but for what it paid itself."""


async def differences(world: World, book: Path, bank_url: str, periods: Sequence[date]) -> list[str]:
    """What is wrong, one line each; nothing is the aim.

    Args:
        world: the deployment; its runs are completed.
        book: the bank's file.
        bank_url: of the bank, for the reconciliation as an operator does it.
        periods: that were paid.
    """
    found: list[str] = []
    for period in periods:
        owed = {row[0]: int(row[1]) for row in await _rows(world, OWED, period=str(period))}
        paid = await _rows(
            world, "SELECT worker_id, amount_minor FROM payout WHERE period = :period", period=str(period)
        )
        if len(paid) != len({row[0] for row in paid}):
            found.append(f"{period}: somebody has more than one payout")
        found += _compared(f"{period}: owed and paid", owed, {row[0]: row[1] for row in paid})
    found += await _against_the_bank(world, book)
    found += await _against_the_outbox(world, len(periods))
    result = await audit(world.database, settled=False)
    found += [f"audit {one.name}: {one.rows} rows" for one in result.findings if one.rows]
    bank = HttpBank(bank_url, CircuitBreaker(time.monotonic))
    try:
        for period in periods:
            outcome = await Reconciler(world.database, bank, Outcomes(CALENDAR, world.announce)).reconcile(period)
            found += [f"{period}: {one.kind.value} {one.reference}: {one.detail}" for one in outcome.differences]
    finally:
        await bank.close()
    return found


async def _against_the_bank(world: World, book: Path) -> list[str]:
    """By the bank's own file, each payout has one booking, of the same account and amount."""
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as bank:
        bookings = bank.execute("SELECT reference, account, amount_minor, status FROM booking").fetchall()
    rows = await _rows(world, "SELECT payout_id, worker_id, amount_minor, state FROM payout")
    status = {"confirmed": "booked", "reversed": "rejected"}
    ours = {row[0]: (row[1], row[2], status.get(row[3], row[3])) for row in rows}
    twice = [reference for reference, count in Counter(row[0] for row in bookings).items() if count > 1]
    found = [f"{len(twice)} references booked more than once: {twice[:SHOWN]}"] if twice else []
    return found + list(_compared("payouts and bank", ours, {row[0]: row[1:] for row in bookings}))


async def _against_the_outbox(world: World, runs: int) -> list[str]:
    """One event per change of state, each with an id of its own."""
    told = {
        row[0].partition(".")[2].removesuffix(".v1"): row[1]
        for row in await _rows(world, "SELECT type, COUNT(*) FROM outbox GROUP BY type")
    }
    states = Counter(row[0] for row in await _rows(world, "SELECT state FROM payout"))
    postings = "SELECT COUNT(*) FROM ledger_transfer WHERE kind IN ('payout', 'payout-reversal')"
    expected = {
        "payout-requested": states.total(),
        "payout-confirmed": states["confirmed"],
        "payout-failed": states["reversed"],
        "payout-reversed": states["reversed"],
        "transaction-applied": (await _rows(world, postings))[0][0],
        "run-completed": runs,
        "period-closed": runs,
    }
    found = list(_compared("states and events", {name: n for name, n in expected.items() if n}, told))
    repeated = "SELECT message_id FROM outbox GROUP BY message_id HAVING COUNT(*) > 1"
    found += [f"event {row[0]} is told twice" for row in await _rows(world, repeated)]
    return found


def _compared(what: str, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[str]:
    wrong = sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))
    if wrong:
        shown = ", ".join(f"{key}: {wanted.get(key)} / {got.get(key)}" for key in wrong[:SHOWN])
        yield f"{what}: {len(wrong)} differ: {shown}"


async def _rows(world: World, sql: str, **values: str) -> list[Any]:
    async with world.database.read() as connection:
        return list(await connection.execute(text(sql), values))
