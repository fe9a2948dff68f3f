"""The bank of contract tests: it answers at once, and the amount says how, so that a test need not tell it.

Invariant: what it says depends on the payment alone, so that it is the same in memory and behind the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.payouts.bank import BankEntry, Booked, EntryStatus, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.payouts.bank import Payment, PaymentOutcome

__all__ = ["REFUSED_CENTS", "ContractBank"]

REFUSED_CENTS = 13
"""An amount that ends in these cents is refused with `account-closed`; any other one is booked."""
HUNDRED = 100


class ContractBank:
    """A `Bank` without money."""

    def __init__(self) -> None:
        self._booked: dict[str, BankEntry] = {}

    async def pay(self, payment: Payment) -> PaymentOutcome:
        """Book or refuse."""
        if payment.amount_minor % HUNDRED == REFUSED_CENTS:
            return Refused("account-closed")
        entry = BankEntry(
            f"ref-{payment.payout_id}",
            payment.payout_id,
            payment.account,
            payment.amount_minor,
            payment.currency,
            EntryStatus.BOOKED,
        )
        self._booked[payment.payout_id] = entry
        return Booked(entry.provider_ref)

    async def find(self, reference: str) -> BankEntry | None:
        """What was booked."""
        return self._booked.get(reference)

    async def report(self, period: str) -> AsyncIterator[BankEntry]:
        """Nothing: no contract test reconciles."""
        for _ in period[:0]:
            yield self._booked[period]
