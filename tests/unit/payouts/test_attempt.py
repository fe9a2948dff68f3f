"""One try: ask before paying once the key may be forgotten, and never take silence for a refusal."""

from __future__ import annotations

from datetime import date

import pytest

from streams.outbox.envelope import Origin
from streams.payouts.attempt import Confirmed, Failed, KeyLife, NotCalled, Review, Unanswered, Verdict, attempt
from streams.payouts.bank import (
    BankEntry,
    BankMisunderstood,
    BankUnavailable,
    Booked,
    EntryStatus,
    PaymentOutcome,
    Refused,
    Unknown,
    UnknownCause,
)
from streams.payouts.domain import Payout, PayoutState
from tests.unit.payouts.scripted_bank import TIMED_OUT, ScriptedBank

HOUR_MS = 3_600_000
LIFE = KeyLife(24 * 3600.0)
PAYOUT = Payout(
    "p", "ada", date(2026, 11, 20), 1, 500, "USD", PayoutState.SENDING, Origin(0), sendable_since_ms=0, attempts=1
)
PAY, FIND = "pay p", "find p"


def entry(status: EntryStatus = EntryStatus.BOOKED, **other: object) -> BankEntry:
    fields: dict[str, object] = {"account": "ada", "amount_minor": 500, "currency": "USD", **other}
    return BankEntry("r", "p", status=status, **fields)  # type: ignore[arg-type]


async def tried(bank: ScriptedBank, hours: float, unanswered: int = 0) -> Verdict:
    return await attempt(bank, PAYOUT._replace(unanswered=unanswered), LIFE, round(hours * HOUR_MS))


@pytest.mark.parametrize(("hours", "calls"), [(0, [PAY]), (12, [PAY]), (12.001, [FIND, PAY]), (999, [FIND, PAY])])
async def test_the_bank_is_asked_first_past_half_of_the_keys_life(hours: float, calls: list[str]) -> None:
    """And also when nothing was ever tried, as far as this database remembers: it may have been restored."""
    bank = ScriptedBank()
    assert await tried(bank, hours) == Confirmed("ref-0")
    assert bank.calls == calls


@pytest.mark.parametrize("hours", [13, 25])
async def test_what_the_bank_has_is_not_sent_again(hours: float) -> None:
    """Whatever it has become of."""
    for found, verdict in (
        (entry(), Confirmed("r")),
        (entry(EntryStatus.RETURNED), Confirmed("r")),
        (entry(EntryStatus.REJECTED, reason_code="closed"), Failed("closed", "r")),
        (entry(EntryStatus.REJECTED), Failed("rejected", "r")),
    ):
        bank = ScriptedBank(found=[found])
        assert await tried(bank, hours, unanswered=1) == verdict
        assert bank.calls == [FIND]


@pytest.mark.parametrize("wrong", [{"amount_minor": 501}, {"account": "bob"}, {"currency": "EUR"}])
async def test_another_payment_under_the_reference_needs_a_person(wrong: dict[str, object]) -> None:
    """Neither paid again nor taken for ours."""
    bank = ScriptedBank(found=[entry(EntryStatus.BOOKED, **wrong)])
    assert isinstance(await tried(bank, 13), Review)
    assert bank.calls == [FIND]


@pytest.mark.parametrize("found", [TIMED_OUT, Unknown(UnknownCause.BANK_FAILED)])
async def test_nothing_is_sent_while_the_bank_does_not_say_what_it_has(found: Unknown) -> None:
    """However long that takes: asking again is harmless, sending again might not be."""
    for hours in (13, 1000):
        bank = ScriptedBank(found=[found])
        assert isinstance(await tried(bank, hours, unanswered=3), Unanswered)
        assert bank.calls == [FIND]


async def test_an_unanswered_call_whose_key_is_over_needs_a_person() -> None:
    """The bank knows nothing of it, but an earlier call may still be on its way."""
    bank = ScriptedBank()
    assert isinstance(await tried(bank, 25, unanswered=1), Review)
    assert bank.calls == [FIND]
    assert await tried(ScriptedBank(), 25, unanswered=0) == Confirmed("ref-0")
    assert await tried(ScriptedBank(), 23, unanswered=1) == Confirmed("ref-0")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Booked("r"), Confirmed("r")),
        (Refused("account-closed"), Failed("account-closed")),
        (Refused("\x00"), Failed("rejected")),
        (TIMED_OUT, Unanswered("no-answer timed out")),
        (Unknown(UnknownCause.BANK_FAILED), Unanswered("bank-failed")),
        (Unknown(UnknownCause.UNREADABLE), Unanswered("unreadable")),
        (Unknown(UnknownCause.BUSY), Unanswered("busy")),
        (Unknown(UnknownCause.NOT_SENT, "refused"), NotCalled("refused")),
        (BankUnavailable("open", 7.0), NotCalled("open", 7.0)),
        (BankMisunderstood("401"), Unanswered("401")),
    ],
)
async def test_only_a_refusal_is_a_failure(answer: PaymentOutcome | Exception, verdict: Verdict) -> None:
    """Every other answer leaves open whether money moved, or says that it did."""
    assert await tried(ScriptedBank(answers=[answer]), 0) == verdict


async def test_a_key_with_another_body_is_looked_up() -> None:
    """What the bank has under the reference counts."""
    conflict = Unknown(UnknownCause.CONFLICT, "other body")
    bank = ScriptedBank(answers=[conflict], found=[entry()])
    assert await tried(bank, 0) == Confirmed("r")
    assert bank.calls == [PAY, FIND]
    for found in (entry(amount_minor=1), None):
        assert isinstance(await tried(ScriptedBank(answers=[conflict], found=[found]), 0), Review)


async def test_a_claim_that_ran_out_sends_nothing() -> None:
    """A process that was frozen between asking and paying."""
    bank = ScriptedBank()
    verdict = await attempt(bank, PAYOUT, LIFE, 13 * HOUR_MS, is_current=lambda: False)
    assert isinstance(verdict, NotCalled)
    assert bank.calls == [FIND]
