"""Messages that the accounting slice sees again: duplicates, and ids that name two things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from contracts.accounting import ClosePeriod, TransactionApplied
from tests.contract.accounting import adjust, assigned, completed, created, statement
from tests.contract.cast import A2, ACE, ADA, BOB, NOBODY, T2, day, worker

if TYPE_CHECKING:
    from contracts.message import Message
    from streams.contract_kit.records import Received
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("accounting")


@pytest.mark.parametrize(
    "message",
    [
        created(T2),
        assigned(task_id=T2, assignment_id=A2),
        completed(task_id=T2),
        adjust(),
        adjust(requested_by=NOBODY),
        ClosePeriod(period=day(1)),
        ClosePeriod(period=day(0)),
        worker(BOB),
    ],
    ids=["created", "assigned", "completed", "adjust", "not-allowed", "close", "period-not-over", "registered"],
)
async def test_the_same_message_again_has_no_effect(contract: Scenario, message: Message) -> None:
    """Nothing is applied twice, nothing is answered twice."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), assigned())
    sent = await contract.when(message)
    await contract.when_again(sent)
    contract.then_duplicate()
    statement(contract)


async def test_the_same_id_with_another_amount_is_parked(contract: Scenario) -> None:
    """Which of the two was meant, a person has to say; the first one stands."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    first = await contract.when(adjust(500))
    contract.then(TransactionApplied, amount_minor=500)
    await contract.when(adjust(501), id=first.id)
    contract.then_parked(reason="id-conflict", state="dead")
    contract.then_nothing_else()
    await contract.when(adjust(1))
    contract.then(TransactionApplied, amount_minor=1, sequence=2, balance_after_minor=501)
    contract.then_nothing_else()


async def test_a_rejected_command_is_not_reconsidered(contract: Scenario) -> None:
    """The same command again stays rejected although it would be accepted now; a new one is accepted."""
    await contract.given(worker(ACE, "accountant"))
    refused = await contract.when(adjust())
    contract.then_rejected("unknown-worker")
    await contract.given(worker(ADA))
    await contract.when_again(refused)
    contract.then_duplicate()
    await contract.when(adjust())
    contract.then(TransactionApplied, amount_minor=500)
    contract.then_nothing_else()


async def test_a_batch_may_bring_everything_at_once(contract: Scenario) -> None:
    """Repeats, refusals and postings of one account in a single delivery."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    first, _again, refused, last = await contract.when_together(
        adjust(500), adjust(500), adjust(1, requested_by=NOBODY), adjust(-200)
    )
    one: Received[TransactionApplied] = contract.then(TransactionApplied, sequence=1, because_of=first)
    contract.then(TransactionApplied, sequence=2, amount_minor=500)
    contract.then_rejected("not-allowed", refused)
    contract.then(TransactionApplied, sequence=3, balance_after_minor=800, because_of=last)
    contract.then_nothing_else()
    assert one.data.period == one.data.business_date <= datetime.now(UTC).date() + timedelta(days=1)
