"""The demo's bank: the simulated one, on a port of its own, with some accounts that it refuses to pay to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.embedded.bank import Bank
from streams.embedded.bank_faults import Faults
from streams.embedded.bank_store import BankStore
from streams.http.server import HttpServer
from streams.payouts.domain import RunStatus
from streams.payouts.reconcile import Reconciler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from datetime import date
    from pathlib import Path

    from streams.app import Payday

__all__ = ["PayDay", "is_paid", "open_demo_bank", "read_pay_day"]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PayDay:
    """What a run has paid, as the summary says it. Amounts are minor units.

    Attributes:
        payouts_confirmed, payouts_failed, payout_total_minor: by our own books.
        bank_total_minor: by the bank's report.
    """

    payouts_confirmed: int = 0
    payouts_failed: int = 0
    payout_total_minor: int = 0
    bank_total_minor: int = 0


@asynccontextmanager
async def open_demo_bank(home: Path, closed_accounts: Collection[str]) -> AsyncIterator[str]:
    """A bank that answers over HTTP while the context lasts; its URL.

    Args:
        home: where its book is kept.
        closed_accounts: that it rejects payments to.
    """
    store = BankStore(home / "bank.db")
    server = HttpServer(Bank(store, faults=Faults(refuse_accounts=frozenset(closed_accounts))).app(), HOST, 0)
    try:
        server.start()
        yield server.url
    finally:
        await server.stop()
        store.close()


async def is_paid(payday: Payday, period: date) -> bool:
    """Whether the run of a period is completed."""
    report = await payday.payouts.runs.report(period)
    return report is not None and report.status is RunStatus.COMPLETED


async def read_pay_day(payday: Payday, period: date) -> tuple[PayDay, list[str]]:
    """What the run of a period has paid, and where payouts, ledger and bank disagree.

    Raises:
        BankError: the bank's report cannot be read.
    """
    assert payday.bank is not None, "the demo has a bank"
    run = await payday.payouts.runs.report(period)
    if run is None:
        return PayDay(), [f"there is no payout run of {period}"]
    found = await Reconciler(payday.database, payday.bank, payday.payouts.outcomes).reconcile(period)
    wrong = [f"{one.kind.value} {one.reference}: {one.detail}" for one in found.differences]
    if run.status is not RunStatus.COMPLETED:
        wrong.append(f"the payout run of {period} is {run.status.value}")
    return PayDay(run.paid_count, run.failed_count, run.total_minor, found.bank_minor), wrong
