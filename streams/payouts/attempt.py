"""One try at one payout: what to ask the bank, in which order, and what its answers mean.

Invariant: the money is only sent where the bank cannot have it already under a key that it has forgotten: inside the
first half of the key's life it recognises the key itself, after that it is asked by reference before every call. How
old a key can be is told by the period that the payout pays, or by the command that reissued it, and not by what this
database remembers of earlier attempts: a database that was restored from a backup remembers too few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from contracts.fields import PAYOUT_REASON_MAX_CHARACTERS
from streams.payouts import bank
from streams.payouts.bank import BankEntry, BankMisunderstood, BankUnavailable, EntryStatus, Payment, UnknownCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.payouts.bank import Bank
    from streams.payouts.domain import Payout

__all__ = [
    "Confirmed",
    "Failed",
    "KeyLife",
    "NotCalled",
    "Review",
    "Unanswered",
    "Verdict",
    "attempt",
    "reason_code_of",
]


@dataclass(frozen=True, slots=True)
class KeyLife:
    """For how long the bank recognises an idempotency key."""

    seconds: float

    def must_ask(self, payout: Payout, now_ms: int) -> bool:
        """Whether the bank may have forgotten the key by the time it is called: past half of its life."""
        return now_ms - payout.sendable_since_ms > self.seconds * 1000 / 2

    def is_over(self, payout: Payout, now_ms: int) -> bool:
        """Whether a key that was used first when the payout became sendable is forgotten by now."""
        return now_ms - payout.sendable_since_ms > self.seconds * 1000


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The bank has paid."""

    provider_ref: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The bank does not pay."""

    reason_code: str
    provider_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """It may have paid or not: ask again, later and later."""

    detail: str


@dataclass(frozen=True, slots=True)
class NotCalled:
    """The bank was not reached: nothing has changed, and no attempt is spent.

    Attributes:
        retry_in_seconds: when it makes sense to try again; 0 where that is not known.
    """

    detail: str
    retry_in_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Review:
    """Only a person can find out."""

    note: str


Verdict = Confirmed | Failed | Unanswered | NotCalled | Review


async def attempt(
    provider: Bank, payout: Payout, life: KeyLife, now_ms: int, *, is_current: Callable[[], bool] = lambda: True
) -> Verdict:
    """Try once.

    Args:
        provider: the bank.
        payout: as it was claimed.
        life: of the bank's keys.
        now_ms: by the database's clock, when it was claimed.
        is_current: asked right before money is sent: whether the claim has not run out meanwhile, in a process that
            was frozen for instance.
    """
    try:
        known = await _asked(provider, payout, life, now_ms) if life.must_ask(payout, now_ms) else None
        if known is not None:
            return known
        if not is_current():
            return NotCalled("the claim ran out before the bank was called")
        return await _sent(provider, payout)
    except BankUnavailable as error:
        return NotCalled(str(error), error.retry_in_seconds)
    except BankMisunderstood as error:
        return Unanswered(str(error))


async def _asked(provider: Bank, payout: Payout, life: KeyLife, now_ms: int) -> Verdict | None:
    """What the bank knows by the reference; None: nothing, and the payment may be sent."""
    found = await provider.find(payout.payout_id)
    if found is not None:
        return _of_entry(payout, found)
    if payout.unanswered and life.is_over(payout, now_ms):
        return Review("the bank knows no such payment, but an earlier call had no answer and its key is over")
    return None


async def _sent(provider: Bank, payout: Payout) -> Verdict:
    outcome = await provider.pay(_payment(payout))
    match outcome:
        case bank.Booked(provider_ref):
            return Confirmed(provider_ref)
        case bank.Refused(reason_code):
            return Failed(reason_code_of(reason_code))
        case bank.Unknown(UnknownCause.NOT_SENT, detail):
            return NotCalled(detail)
        case bank.Unknown(UnknownCause.CONFLICT, detail):
            return await _after_conflict(provider, payout, detail)
        case bank.Unknown(cause, detail):
            return Unanswered(f"{cause.value} {detail}".rstrip())
        case _:
            assert_never(outcome)


async def _after_conflict(provider: Bank, payout: Payout, detail: str) -> Verdict:
    """The bank knows the key with another body: what it knows by the reference counts."""
    found = await provider.find(payout.payout_id)
    if found is None:
        return Review(f"the bank knows the key with another body, and no payment under the reference ({detail})")
    return _of_entry(payout, found)


def _of_entry(payout: Payout, found: BankEntry | bank.Unknown) -> Verdict:
    """A payment that the bank knows, as far as it is this one."""
    if isinstance(found, bank.Unknown):
        return Unanswered(f"asked by reference: {found.cause.value} {found.detail}".rstrip())
    ours = (payout.worker_id, payout.amount_minor, payout.currency)
    theirs = (found.account, found.amount_minor, found.currency)
    if ours != theirs:
        return Review(f"the bank has {found.amount_minor} {found.currency} to {found.account} under this reference")
    match found.status:
        case EntryStatus.REJECTED:
            return Failed(reason_code_of(found.reason_code or ""), found.provider_ref)
        case EntryStatus.BOOKED | EntryStatus.RETURNED:  # that it came back is for the reconciliation to see
            return Confirmed(found.provider_ref)
        case _:
            assert_never(found.status)


def reason_code_of(said: str) -> str:
    """A bank's reason as an event can carry it."""
    return "".join(c for c in said if c.isprintable())[:PAYOUT_REASON_MAX_CHARACTERS] or "rejected"


def _payment(payout: Payout) -> Payment:
    return Payment(payout.payout_id, payout.worker_id, payout.period.isoformat(), payout.amount_minor, payout.currency)
