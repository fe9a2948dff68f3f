"""What becomes of payouts, in the database: claiming them, and writing down what the bank, or a person, has decided.

Invariant: state, postings and events of a payout change in one transaction, in which its row is locked; each posting
has a unique name, so that none can be made twice. The callers see to it that what they write still is the case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, case, func, literal_column, null, select, update

from contracts.payouts import PayoutConfirmed, PayoutFailed, PayoutReversed
from streams.ledger.domain import BANK, CLEARING, Account, Posting, book_posting, settlement
from streams.ledger.store import insert_transfers, share_book
from streams.ledger.tables import ledger_account
from streams.outbox.store import append
from streams.payouts.domain import PayoutCause, PayoutState, event_of, reverse_ref, settle_ref
from streams.payouts.store import load_payouts
from streams.payouts.tables import payout
from streams.storage.bulk import among, execute_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.ledger.domain import BusinessCalendar, Transfer
    from streams.outbox.envelope import Origin, OutgoingMessage
    from streams.payouts.announcer import Announcer
    from streams.payouts.domain import Payout

__all__ = ["Later", "Outcomes", "Reversal", "claim_due", "put_off", "put_under_review", "send_again"]

NOTE_MAX_CHARACTERS = 500


class Reversal(NamedTuple):
    """A payout whose money goes back to its account.

    Attributes:
        payout: as it is now.
        failed: whether it failed, rather than came back after it was confirmed.
        reason_code: why.
        origin: what it is dated by, where that is not what asked for the payout.
        provider_ref: the bank's name for it, where known.
    """

    payout: Payout
    failed: bool
    reason_code: str
    origin: Origin | None = None
    provider_ref: str | None = None


class Later(NamedTuple):
    """A payout that is tried again.

    Attributes:
        payout: as it was claimed.
        at_ms: not before.
        answered: False where money may have moved; True where the bank was not even called.
        note: why, for a person.
    """

    payout: Payout
    at_ms: int
    answered: bool
    note: str


# --- claiming --------------------------------------------------------------------------------------------------------


async def claim_due(connection: AsyncConnection, holder: str, at_most: int, now_ms: int, lease_ms: int) -> list[Payout]:
    """Take payouts whose time has come, or whose holder has not been heard of for the length of a lease.

    Each claim has a new number. Whoever held a payout that was being sent may have sent it: that counts as unanswered.
    """
    due = await connection.execute(
        select(payout.c.payout_id)
        .where(payout.c.next_attempt_at_ms.is_not(None), payout.c.next_attempt_at_ms <= now_ms)
        .order_by(payout.c.next_attempt_at_ms)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    ids = [row[0] for row in due]
    if not ids:
        return []
    was_being_sent = case((payout.c.state == PayoutState.SENDING, 1), else_=0)
    await connection.execute(
        update(payout)
        .where(among(connection, payout.c.payout_id, ids))
        .values(
            state=PayoutState.SENDING,
            attempts=payout.c.attempts + 1,
            unanswered=payout.c.unanswered + was_being_sent,
            next_attempt_at_ms=now_ms + lease_ms,
            first_sent_at_ms=func.coalesce(payout.c.first_sent_at_ms, now_ms),
            holder=holder,
        )
    )
    return await load_payouts(connection, ids)


_LATER = (
    update(payout)
    .where(payout.c.payout_id == bindparam("of_payout"))
    .values(
        state=bindparam("new_state"),
        unanswered=bindparam("new_unanswered"),
        next_attempt_at_ms=bindparam("new_time"),
        note=bindparam("new_note"),
        holder=null(),
    )
)


async def put_off(connection: AsyncConnection, later: Sequence[Later]) -> None:
    """Let payouts be claimed again at a later time."""
    rows = []
    for one in later:
        unanswered = one.payout.unanswered + (0 if one.answered else 1)
        state = PayoutState.UNKNOWN if unanswered else PayoutState.REQUESTED
        rows.append(
            {
                "of_payout": one.payout.payout_id,
                "new_state": state.value,
                "new_unanswered": unanswered,
                "new_time": one.at_ms,
                "new_note": _bounded(one.note),
            }
        )
    await execute_many(connection, _LATER, rows)


async def put_under_review(connection: AsyncConnection, payout_id: str, note: str) -> None:
    """Leave a payout to a person: nothing is sent until somebody has decided."""
    await connection.execute(
        update(payout)
        .where(payout.c.payout_id == payout_id)
        .values(state=PayoutState.MANUAL_REVIEW, next_attempt_at_ms=None, note=_bounded(note), holder=None)
    )


async def send_again(connection: AsyncConnection, payout_id: str, note: str, now_ms: int) -> None:
    """A person has made sure that the bank has no trace of a payout: what was unanswered counts as answered."""
    await connection.execute(
        update(payout)
        .where(payout.c.payout_id == payout_id)
        .values(state=PayoutState.REQUESTED, next_attempt_at_ms=now_ms, unanswered=0, note=_bounded(note))
    )


def _bounded(note: str) -> str:
    return note.replace("\x00", "")[:NOTE_MAX_CHARACTERS]


# --- what was decided ------------------------------------------------------------------------------------------------

_DECIDED = (
    update(payout)
    .where(payout.c.payout_id == bindparam("of_payout"))
    .values(
        state=bindparam("new_state"),
        provider_ref=bindparam("new_ref"),
        reason_code=bindparam("new_reason"),
        reversal_period=bindparam("new_reversal_period"),
        decided_at_ms=bindparam("now_ms"),
        next_attempt_at_ms=null(),
        holder=null(),
    )
)
_GIVE_BACK = (
    update(ledger_account)
    .where(ledger_account.c.worker_id == bindparam("in_worker_id"))
    .values(
        balance_minor=ledger_account.c.balance_minor + bindparam("amount_minor"),
        version=ledger_account.c.version + literal_column("1"),
    )
)


class Outcomes:
    """Writes down what was decided about payouts, with its postings and events.

    Args:
        calendar: the deployment's.
        announce: makes the events.
    """

    def __init__(self, calendar: BusinessCalendar, announce: Announcer) -> None:
        self._calendar = calendar
        self._announce = announce

    async def confirm(self, connection: AsyncConnection, paid: Sequence[tuple[Payout, str]], now_ms: int) -> None:
        """The bank has paid: the money moves on from clearing. No worker's account changes.

        Args:
            connection: of a transaction that has locked the payouts.
            paid: payouts and what the bank calls them.
            now_ms: by the database's clock.
        """
        transfers, messages, rows = [], [], []
        for payout_, provider_ref in paid:
            one = payout_._replace(state=PayoutState.CONFIRMED, provider_ref=provider_ref)
            cause = PayoutCause.of(one, self._calendar)
            ref = settle_ref(one.payout_id)
            transfers.append(settlement(ref, one.payout_id, one.amount_minor, cause, self._calendar, one.period))
            told = event_of(PayoutConfirmed, one)
            messages.append(self._announce(told, one.origin, cause.derive("payout-confirmed")))
            rows.append(_decided(one, now_ms))
        await execute_many(connection, _DECIDED, rows)
        await insert_transfers(connection, transfers, now_ms)
        await append(connection, messages, now_ms)

    async def reverse(self, connection: AsyncConnection, reversals: Sequence[Reversal], now_ms: int) -> None:
        """The money goes back to the accounts, in the open period.

        Args:
            connection: of a transaction that has locked the payouts, and no account yet.
            reversals: of different accounts or of the same.
            now_ms: by the database's clock.

        Raises:
            InvalidMessage: a balance would become larger than a contract allows.
        """
        if not reversals:
            return
        book = await share_book(connection)
        accounts = await _lock_accounts(connection, {one.payout.worker_id for one in reversals})
        transfers: list[Transfer] = []
        messages: list[OutgoingMessage] = []
        rows = []
        for reversal in reversals:
            one = reversal.payout._replace(
                state=PayoutState.REVERSED,
                reason_code=reversal.reason_code,
                provider_ref=reversal.provider_ref or reversal.payout.provider_ref,
            )
            origin = reversal.origin or one.origin
            cause = PayoutCause.of(one, self._calendar, origin)
            posting = Posting(
                one.worker_id,
                "payout-reversal",
                one.amount_minor,
                reverse_ref(one.payout_id),
                payout_id=one.payout_id,
                house_account=CLEARING if reversal.failed else BANK,
            )
            booked = book_posting(accounts[one.worker_id], posting, cause, self._calendar, book)
            accounts[one.worker_id] = booked.account
            transfers.append(booked.transfer)
            if reversal.failed:
                told = event_of(PayoutFailed, one)
                messages.append(self._announce(told, origin, cause.derive("payout-failed")))
            back = event_of(PayoutReversed, one)
            messages.append(self._announce(back, origin, cause.derive("payout-reversed")))
            applied = cause.derive(f"applied/{posting.source_ref}")
            messages.append(self._announce(booked.event, origin, applied))
            rows.append(_decided(one._replace(reversal_period=booked.transfer.period), now_ms))
        await execute_many(connection, _DECIDED, rows)
        given = [{"in_worker_id": one.payout.worker_id, "amount_minor": one.payout.amount_minor} for one in reversals]
        await execute_many(connection, _GIVE_BACK, given)
        await insert_transfers(connection, transfers, now_ms)
        await append(connection, messages, now_ms)


def _decided(one: Payout, now_ms: int) -> dict[str, object]:
    return {
        "of_payout": one.payout_id,
        "new_state": one.state.value,
        "new_ref": one.provider_ref,
        "new_reason": one.reason_code,
        "new_reversal_period": one.reversal_period.isoformat() if one.reversal_period else None,
        "now_ms": now_ms,
    }


async def _lock_accounts(connection: AsyncConnection, worker_ids: set[str]) -> dict[str, Account]:
    """In the order of their ids, which is the order in which everybody locks them."""
    rows = await connection.execute(
        select(ledger_account.c.worker_id, ledger_account.c.balance_minor, ledger_account.c.version)
        .where(among(connection, ledger_account.c.worker_id, worker_ids))
        .order_by(ledger_account.c.worker_id)
        .with_for_update()
    )
    return {row[0]: Account(row[0], row[1], row[2], row[2]) for row in rows}
