"""Commands and events about money: prices, postings and periods.

Invariant: amounts are whole minor units (cents) with their currency, and a positive amount is in the worker's
favour.
"""

from contracts.fields import (
    AmountMinor,
    BalanceMinor,
    Currency,
    Id,
    Note,
    Period,
    PositiveMinor,
    Sequence,
    TransactionKind,
)
from contracts.message import Message
from contracts.rejections import CommandRejected


class AdjustBalance(Message):
    """Asks to correct a worker's balance by hand.

    Sent by an accountant or an admin; rejected for anybody else, for an unknown worker and for a currency
    other than the deployment's.
    """

    worker_id: Id
    amount_minor: AmountMinor
    """Positive: the worker is owed more. Negative: less."""
    currency: Currency
    note: Note
    """Why, for the account statement."""
    requested_by: Id
    """The worker who asks."""


class ClosePeriod(Message):
    """Asks to close a business day, and every earlier one, so that its balances are final.

    Sent by a scheduler or an operator. Rejected while the day is not over and once it is closed.
    """

    period: Period


class TaskPriced(Message):
    """A task has its two prices, which never change afterwards.

    Emitted by the accounting slice, once per task, when it first hears of the task.
    """

    task_id: Id
    fee_minor: PositiveMinor
    """What each assignment costs the assignee."""
    reward_minor: PositiveMinor
    """What completing the task earns."""
    currency: Currency


class TransactionApplied(Message):
    """One posting on one worker's account.

    Emitted by the ledger for every posting, in the order of `sequence` within an account.
    """

    transfer_id: Id
    worker_id: Id
    sequence: Sequence
    """Counts the account's postings from 1 without a gap."""
    kind: TransactionKind
    amount_minor: AmountMinor
    """Signed: positive raises the balance."""
    currency: Currency
    balance_after_minor: BalanceMinor
    period: Period
    """The business day that the posting counts for."""
    business_date: Period
    """The business day on which its cause happened; earlier than `period` if that day was closed by then."""
    task_id: Id | None = None
    """The task, where a task was the cause."""
    payout_id: Id | None = None
    """The payout, where a payout was the cause."""


class PeriodClosed(Message):
    """A business day is closed: nothing more is posted to it.

    Emitted by the accounting slice, once per period that was closed.
    """

    period: Period


class AccountingCommandRejected(CommandRejected):
    """A command about money was refused and changed nothing.

    Emitted by the accounting slice once per refused command, with the command's key.
    """
