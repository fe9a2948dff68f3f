"""A bank that does what a test tells it, and keeps a book of every call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.payouts.bank import BankEntry, Booked, EntryStatus, Refused, Unknown, UnknownCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.payouts.bank import Payment, PaymentOutcome

TIMED_OUT = Unknown(UnknownCause.NO_ANSWER, "timed out")


@dataclass
class ScriptedBank:
    """Books everything once per key, unless told otherwise.

    Attributes:
        answers: given one after the other instead; an exception is raised, "book and lose" books and times out.
        refused: account -> reason.
        silent: accounts whose payments are never answered, nor booked.
        booked: by reference.
        calls: what was asked, in order.
        forgets_keys: books a known key again, as if its life were over.
        meanwhile: awaited in the middle of each payment.
    """

    answers: list[PaymentOutcome | Exception | str] = field(default_factory=list)
    found: list[BankEntry | Unknown | Exception | None] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    booked: dict[str, BankEntry] = field(default_factory=dict)
    bookings: list[BankEntry] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    forgets_keys: bool = False
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def pay(self, payment: Payment) -> PaymentOutcome:
        self.calls.append(f"pay {payment.payout_id}")
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if not isinstance(answer, str):
                return answer
            self._book(payment)
            return TIMED_OUT
        if payment.account in self.silent:
            return TIMED_OUT
        if payment.account in self.refused:
            return Refused(self.refused[payment.account])
        return Booked(self._book(payment).provider_ref)

    def _book(self, payment: Payment) -> BankEntry:
        known = self.booked.get(payment.payout_id)
        if known is not None and not self.forgets_keys:
            return known
        entry = BankEntry(
            f"ref-{len(self.bookings)}",
            payment.payout_id,
            payment.account,
            payment.amount_minor,
            payment.currency,
            EntryStatus.BOOKED,
        )
        self.booked[payment.payout_id] = entry
        self.bookings.append(entry)
        return entry

    async def find(self, reference: str) -> BankEntry | Unknown | None:
        self.calls.append(f"find {reference}")
        if self.found:
            answer = self.found.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self.booked.get(reference)

    async def report(self, period: str) -> AsyncIterator[BankEntry]:
        for entry in self.bookings:
            yield entry
