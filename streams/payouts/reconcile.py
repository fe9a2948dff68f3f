"""Whether payouts, the ledger and the bank's own report say the same; and what the bank has returned.

Invariant: a return is written down like any other outcome, once; a difference is only ever listed, never mended.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import structlog
from sqlalchemy import func, select, update

from streams.ledger.tables import ledger_transfer
from streams.outbox.envelope import Origin
from streams.payouts.attempt import reason_code_of
from streams.payouts.bank import EntryStatus
from streams.payouts.domain import PayoutState
from streams.payouts.outcomes import Reversal
from streams.payouts.store import lock_payouts, payout_from, select_payouts
from streams.payouts.tables import payout, payout_difference
from streams.storage.bulk import among, upsert_rows
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.payouts.bank import Bank, BankEntry
    from streams.payouts.domain import Payout
    from streams.payouts.outcomes import Outcomes
    from streams.storage.database import Database

__all__ = ["Difference", "DifferenceKind", "Reconciler", "Reconciliation"]

log = structlog.get_logger(__name__)

RETURNS_AT_ONCE = 100
PAYOUTS_AT_ONCE = 5_000
"""Read from the database, and compared, so many at a time."""


class DifferenceKind(StrEnum):
    """How the three can disagree."""

    MISSING_IN_BANK = "missing-in-bank"
    """We have it as paid, the bank's report does not list it."""
    UNKNOWN_TO_US = "unknown-to-us"
    """The bank has paid something that is none of our payouts."""
    AMOUNT = "amount"
    """Amount, currency or account differ."""
    BOOKED_TWICE = "booked-twice"
    """The bank has more than one booking of a payout."""
    STATE = "state"
    """The bank has paid it and we have not written that down, or the other way round."""
    LEDGER = "ledger"
    """What the ledger moved for it is not what its state says."""


class Difference(NamedTuple):
    """One disagreement.

    Attributes:
        reference: the payout's id, or the bank's name for a payment that is none of ours.
    """

    kind: DifferenceKind
    reference: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a look has found. Amounts are minor units, of payouts that are paid and did not come back."""

    period: date
    differences: tuple[Difference, ...]
    returned: int
    payouts_minor: int
    ledger_minor: int
    bank_minor: int

    @property
    def ok(self) -> bool:
        """Whether all three agree."""
        return not self.differences


class Reconciler:
    """Compares.

    Args:
        database: holds payouts and ledger.
        bank: whose report is read.
        outcomes: writes down what came back.
        wake_relay: called when something was written down.
    """

    def __init__(
        self,
        database: Database,
        bank: Bank,
        outcomes: Outcomes,
        *,
        wake_relay: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._bank = bank
        self._outcomes = outcomes
        self._wake_relay = wake_relay

    async def reconcile(self, period: date) -> Reconciliation:
        """Write down what came back, compare, and keep the differences, which raises an alarm.

        Raises:
            BankError: the report cannot be read.
            StorageError: the database cannot be used.
        """
        entries: dict[str, list[BankEntry]] = {}
        async for entry in self._bank.report(period.isoformat()):
            entries.setdefault(entry.reference, []).append(entry)
        returned = await self._write_returns(period, entries)
        async with self._database.read() as connection:
            payouts = await _payouts_of(connection, period)
            ledger = await _ledger_of(connection, payouts)
        differences = tuple(_compare(payouts, ledger, entries))
        await self._keep(period, differences)
        paid = [one for one in payouts if one.state is PayoutState.CONFIRMED]
        bank_minor = sum(
            one.amount_minor for known in entries.values() for one in known if one.status is EntryStatus.BOOKED
        )
        return Reconciliation(
            period,
            differences,
            returned,
            sum(one.amount_minor for one in paid),
            sum(ledger.get(one.payout_id, _NOTHING).at_bank_minor for one in payouts),
            bank_minor,
        )

    async def _write_returns(self, period: date, entries: dict[str, list[BankEntry]]) -> int:
        """Give back what the bank paid and got back, days later perhaps."""
        back = {
            reference: known[0]
            for reference, known in entries.items()
            if len(known) == 1 and known[0].status is EntryStatus.RETURNED
        }
        written = 0
        ids = sorted(back)
        for first in range(0, len(ids), RETURNS_AT_ONCE):
            async with self._database.write() as connection:
                now_ms = await database_time_ms(connection)
                reversals = [
                    Reversal(
                        one,
                        failed=False,
                        reason_code=reason_code_of(entry.reason_code or "returned"),
                        origin=Origin(now_ms),
                    )
                    for one in await lock_payouts(connection, ids[first : first + RETURNS_AT_ONCE])
                    if one.state is PayoutState.CONFIRMED
                    and _is_same(one, entry := back[one.payout_id])
                    and one.period == period
                ]
                await self._outcomes.reverse(connection, reversals, now_ms)
            written += len(reversals)
        if written:
            log.info("payouts came back", period=str(period), count=written)
            self._wake_relay()
        return written

    async def _keep(self, period: date, differences: Sequence[Difference]) -> None:
        """Differences that are gone are resolved by themselves; those that a person has resolved stay so."""
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            rows = await connection.execute(
                select(
                    payout_difference.c.kind,
                    payout_difference.c.reference,
                    payout_difference.c.found_at_ms,
                    payout_difference.c.resolved_at_ms,
                    payout_difference.c.note,
                ).where(payout_difference.c.period == period.isoformat())
            )
            known = {(row.kind, row.reference): row for row in rows}
            await upsert_rows(
                connection,
                payout_difference,
                ("period", "kind", "reference", "detail", "found_at_ms", "seen_at_ms", "resolved_at_ms", "note"),
                [
                    (
                        period.isoformat(),
                        one.kind.value,
                        one.reference,
                        one.detail,
                        before.found_at_ms if before else now_ms,
                        now_ms,
                        before.resolved_at_ms if before and before.note else None,
                        before.note if before else None,
                    )
                    for one in sorted(differences)
                    for before in [known.get((one.kind.value, one.reference))]
                ],
            )
            await connection.execute(
                update(payout_difference)
                .where(
                    payout_difference.c.period == period.isoformat(),
                    payout_difference.c.seen_at_ms < now_ms,
                    payout_difference.c.resolved_at_ms.is_(None),
                )
                .values(resolved_at_ms=now_ms)
            )


class _Moved(NamedTuple):
    """What the ledger moved for a payout, by purpose."""

    reserved_minor: int = 0
    settled_minor: int = 0
    reversed_minor: int = 0

    @property
    def at_bank_minor(self) -> int:
        """What the bank has paid and not returned, by the ledger."""
        return self.settled_minor - self.reversed_minor if self.settled_minor else 0


_NOTHING = _Moved()
_FIELDS = {"payout": "reserved_minor", "settlement": "settled_minor", "payout-reversal": "reversed_minor"}


async def _payouts_of(connection: AsyncConnection, period: date) -> list[Payout]:
    rows = await connection.execute(select_payouts().where(payout.c.period == period.isoformat()))
    return [payout_from(row) for row in rows]


async def _ledger_of(connection: AsyncConnection, payouts: Sequence[Payout]) -> dict[str, _Moved]:
    moved: dict[str, _Moved] = {}
    for first in range(0, len(payouts), PAYOUTS_AT_ONCE):
        refs = [
            f"payout:{one.payout_id}:{step}"
            for one in payouts[first : first + PAYOUTS_AT_ONCE]
            for step in ("reserve", "settle", "reverse")
        ]
        rows = await connection.execute(
            select(ledger_transfer.c.payout_id, ledger_transfer.c.kind, func.sum(ledger_transfer.c.amount_minor))
            .where(among(connection, ledger_transfer.c.source_ref, refs))
            .group_by(ledger_transfer.c.payout_id, ledger_transfer.c.kind)
        )
        for payout_id, kind, amount in rows:
            moved[payout_id] = moved.get(payout_id, _NOTHING)._replace(**{_FIELDS[kind]: int(amount)})
    return moved


def _compare(
    payouts: Iterable[Payout], ledger: dict[str, _Moved], entries: dict[str, list[BankEntry]]
) -> Iterator[Difference]:
    ours = set()
    for one in payouts:
        ours.add(one.payout_id)
        known = [entry for entry in entries.get(one.payout_id, ()) if entry.status is not EntryStatus.REJECTED]
        yield from _compare_with_bank(one, known)
        yield from _compare_with_ledger(one, ledger.get(one.payout_id, _NOTHING))
    for reference in sorted(entries.keys() - ours):
        for entry in entries[reference]:
            if entry.status is not EntryStatus.REJECTED:
                detail = f"{entry.amount_minor} {entry.currency} to {entry.account}, reference {reference}"
                yield Difference(DifferenceKind.UNKNOWN_TO_US, entry.provider_ref, detail)


def _compare_with_bank(one: Payout, known: Sequence[BankEntry]) -> Iterator[Difference]:
    paid = one.state is PayoutState.CONFIRMED
    if len(known) > 1:
        refs = ", ".join(entry.provider_ref for entry in known)
        yield Difference(DifferenceKind.BOOKED_TWICE, one.payout_id, f"{len(known)} bookings: {refs}")
    for entry in known[:1]:
        if not _is_same(one, entry):
            theirs = f"{entry.amount_minor} {entry.currency} to {entry.account}"
            ours = f"{one.amount_minor} {one.currency} to {one.worker_id}"
            yield Difference(DifferenceKind.AMOUNT, one.payout_id, f"the bank: {theirs}; we: {ours}")
        elif (entry.status is EntryStatus.BOOKED) != paid:
            yield Difference(DifferenceKind.STATE, one.payout_id, f"the bank: {entry.status.value}; we: {one.state}")
    if paid and not known:
        yield Difference(DifferenceKind.MISSING_IN_BANK, one.payout_id, f"{one.amount_minor} {one.currency}, confirmed")


def _compare_with_ledger(one: Payout, moved: _Moved) -> Iterator[Difference]:
    amount = one.amount_minor
    settled = {amount} if one.state is PayoutState.CONFIRMED else {0, amount} if one.provider_ref else {0}
    back = amount if one.state is PayoutState.REVERSED else 0
    if moved.reserved_minor != amount or moved.settled_minor not in settled or moved.reversed_minor != back:
        yield Difference(
            DifferenceKind.LEDGER,
            one.payout_id,
            f"{one.state} with {amount}: reserved {moved.reserved_minor}, settled {moved.settled_minor}, "
            f"reversed {moved.reversed_minor}",
        )


def _is_same(one: Payout, entry: BankEntry) -> bool:
    return (entry.account, entry.amount_minor, entry.currency) == (one.worker_id, one.amount_minor, one.currency)
