"""Posting: once per source, gapless, to the right period, with both sides named."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.accounting import TransactionApplied
from streams.intake.deciders import Change, Rejected, State
from streams.ledger.domain import Account, AccountKey, Book, BookKey, BusinessCalendar, Posting, TransferKey, post
from streams.outbox.envelope import Cause, parse_time

WORKER = "11111111-1111-4111-8111-111111111111"
NOON = parse_time("2026-11-20T12:00:00Z")
CALENDAR = BusinessCalendar(ZoneInfo("UTC"), "USD", 300)


def cause(message_id: str = "c", time_ms: int = NOON) -> Cause:
    return Cause(message_id, "test", "t", time_ms, b"k", message_id, None, NOON)


def state(book: Book | None = None) -> State:
    return State({BookKey: {BookKey(): book or Book()}, AccountKey: {}, TransferKey: {}})


def run(state: State, posting: Posting, caused_by: Cause | None = None) -> list[Any]:
    events = []
    for outcome in post(state, posting, caused_by or cause(), CALENDAR):
        if isinstance(outcome, Change):
            outcome.apply(state)
        else:
            events.append(outcome)
    state.keep()
    return events


def fee(amount: int, ref: str = "fee:1") -> Posting:
    return Posting(WORKER, "fee", amount, ref)


def test_a_posting_happens_once_per_source() -> None:
    """The same source_ref again changes nothing and emits nothing, whoever sends it."""
    ledger = state()
    assert len(run(ledger, fee(-1000))) == 1
    assert run(ledger, fee(-1000), cause("another message")) == []
    assert ledger[AccountKey(WORKER)].balance_minor == -1000


def test_both_sides_are_named() -> None:
    """What raises a worker's balance is debited to the house, what lowers it is credited to it."""
    ledger = state()
    run(ledger, fee(-1000))
    run(ledger, Posting(WORKER, "reward", 2500, "reward:1"))
    paid, earned = ledger[TransferKey("fee:1")], ledger[TransferKey("reward:1")]
    assert (paid.debit_account, paid.credit_account, paid.amount_minor) == (f"worker:{WORKER}", "house:fees", 1000)
    assert (earned.debit_account, earned.credit_account) == ("house:rewards", f"worker:{WORKER}")


@given(st.lists(st.integers(-(10**6), 10**6).filter(bool), min_size=1, max_size=30))
def test_an_account_is_the_sum_of_its_postings_without_a_gap(amounts: list[int]) -> None:
    """Sequence counts from 1, balance_after is the running sum, and the account stands at the last of them."""
    ledger = state()
    events: list[TransactionApplied] = []
    for number, amount in enumerate(amounts):
        events += run(ledger, Posting(WORKER, "adjustment", amount, f"adjustment:{number}"))
    assert [event.sequence for event in events] == list(range(1, len(amounts) + 1))
    assert [event.balance_after_minor for event in events] == [sum(amounts[: n + 1]) for n in range(len(amounts))]
    account: Account = ledger[AccountKey(WORKER)]
    assert (account.balance_minor, account.version) == (sum(amounts), len(amounts))


@pytest.mark.parametrize(
    ("closed_through", "expected"),
    [
        (None, date(2026, 11, 20)),
        (date(2026, 11, 19), date(2026, 11, 20)),
        (date(2026, 11, 20), date(2026, 11, 21)),
        (date(2026, 12, 31), date(2027, 1, 1)),
    ],
)
def test_a_posting_goes_to_the_earliest_open_period(closed_through: date | None, expected: date) -> None:
    """The business date stays that of the message; the period is open."""
    (event,) = run(state(Book(closed_through)), fee(-1000))
    assert (event.business_date, event.period) == (date(2026, 11, 20), expected)


def test_the_business_date_is_a_date_in_the_business_zone() -> None:
    """One minute before midnight UTC is already tomorrow in Berlin."""
    late = parse_time("2026-11-20T23:59:00Z")
    assert BusinessCalendar(ZoneInfo("Europe/Berlin"), "EUR", 300).date_of(late) == date(2026, 11, 21)
    assert CALENDAR.date_of(late) == date(2026, 11, 20)


@pytest.mark.parametrize(("ahead_seconds", "refused"), [(300, False), (301, True)])
def test_a_message_from_the_future_is_refused(ahead_seconds: int, refused: bool) -> None:
    """Clocks may differ by the skew, and no more."""
    late = cause(time_ms=NOON + ahead_seconds * 1000)
    assert CALENDAR.is_future(late) is refused
    if refused:
        with pytest.raises(Rejected):
            CALENDAR.refuse_future_event(late)
