"""Commands and events about paying balances out: runs, and the payouts that they consist of.

Invariant: the key of each event about a payout is the worker's id, of each event about a run its period; all events
of one payout carry the same `payout_id`, which is also the reference that the bank knows it by.
"""

from contracts.fields import Count, Currency, Id, PayoutReason, Period, PositiveMinor, ProviderRef, TotalMinor
from contracts.message import Message
from contracts.rejections import CommandRejected


class StartRun(Message):
    """Asks to pay out what every worker has earned up to a business day that is over.

    Sent by a scheduler or an operator. Rejected while the day is not over and once a later run is registered; for a
    run that exists it has no effect.
    """

    period: Period


class Reissue(Message):
    """Asks to pay a payout again whose money came back.

    Sent by an accountant or an admin; rejected for anybody else, for a payout that was not reversed or was reissued
    before, where the balance no longer covers it, and once the next run is going to pay it anyway.
    """

    payout_id: Id
    """The payout whose money came back."""
    requested_by: Id
    """The worker who asks."""


class PayoutEvent(Message):
    """What every event about one payout says. Each step has a contract of its own."""

    payout_id: Id
    worker_id: Id
    period: Period
    """The business day up to which it pays."""
    amount_minor: PositiveMinor
    currency: Currency
    provider_ref: ProviderRef | None = None
    """What the bank calls the payment, once it has booked or refused it."""
    reason_code: PayoutReason | None = None
    """Why it failed or came back, as the bank or an operator says."""


class PayoutRequested(PayoutEvent):
    """Money was taken from a worker's account to be paid out.

    Emitted by the payouts slice, once per payout, in the transaction that takes the money.
    """


class PayoutConfirmed(PayoutEvent):
    """The bank has booked a payout.

    Emitted by the payouts slice, at most once per payout.
    """


class PayoutFailed(PayoutEvent):
    """The bank, or an operator in its place, has refused a payout; its reversal follows.

    Emitted by the payouts slice, at most once per payout and never after it was confirmed.
    """


class PayoutReversed(PayoutEvent):
    """The money of a payout is back on the worker's account: it failed, or the bank returned it days later.

    Emitted by the payouts slice, at most once per payout.
    """


class RunCompleted(Message):
    """Nothing of a run is under way any more.

    Emitted by the payouts slice, once per run. A payout that the bank returns later does not change it.
    """

    period: Period
    paid_count: Count
    """Payouts that the bank has booked."""
    failed_count: Count
    """Payouts that were reversed, and those that an operator has to look at."""
    total_minor: TotalMinor
    """The sum of what was paid."""
    currency: Currency


class PayoutsCommandRejected(CommandRejected):
    """A command about payouts was refused and changed nothing.

    Emitted by the payouts slice once per refused command, with the command's key.
    """
