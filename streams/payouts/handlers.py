"""How messages reach the payouts slice: one subscription, one FastStream handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faststream.confluent import KafkaRouter

from contracts.catalog import entry_of
from contracts.payouts import Reissue, StartRun
from streams.intake.batch import Batch
from streams.intake.deciders import Deciders
from streams.ledger.directory import WorkerKey
from streams.ledger.domain import AccountKey, BookClosingKey, BookKey, TransferKey
from streams.middleware.unit_of_work import Work
from streams.payouts import domain
from streams.payouts.domain import LatestRunKey, PayoutKey, RunKey, payout_id_of, reserve_ref
from streams.payouts.store import payout_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.intake.deciders import State
    from streams.middleware.intake import Intake
    from streams.outbox.envelope import Cause
    from streams.payouts.domain import Payout, Rules

__all__ = ["GROUP", "TOPICS", "deciders", "router"]

GROUP = "payouts"
TOPICS = ("payouts.commands",)

Handled = StartRun | Reissue


def deciders(rules: Rules, accounting_group: str, wake: Callable[[], None]) -> Deciders:
    """The slice's decisions, bound to a deployment's rules."""
    decisions = Deciders(payout_rows(accounting_group, wake))
    decisions.add(
        StartRun,
        partial(domain.start_run, rules),
        needs=lambda command, _cause: (BookClosingKey(), BookKey(), RunKey(command.period), LatestRunKey()),
    )
    decisions.add(
        Reissue,
        partial(domain.reissue, rules),
        needs=lambda command, _cause: (WorkerKey(command.requested_by), PayoutKey(command.payout_id), BookKey()),
        then_needs=_of_the_payout,
    )
    return decisions


def _of_the_payout(state: State, command: Reissue, _cause: Cause) -> Iterator[object]:
    """The account of a payout's worker, and what a reissue would make."""
    payout: Payout | None = state[PayoutKey(command.payout_id)]
    if payout is not None:
        again = payout_id_of(payout.period, payout.worker_id, payout.seq + 1)
        yield PayoutKey(again)
        yield AccountKey(payout.worker_id)
        yield TransferKey(reserve_ref(again))


def router(intake: Intake, rules: Rules, accounting_group: str, wake: Callable[[], None]) -> KafkaRouter:
    """The slice's part of the app."""
    decisions = deciders(rules, accounting_group, wake)
    subscription = intake.subscribe(
        *TOPICS, group=GROUP, accepts=[entry_of(contract).type_name for contract in decisions.message_types]
    )
    slice_router = KafkaRouter()

    @slice_router.subscriber(*subscription.topics, **intake.options(subscription))  # type: ignore[untyped-decorator]
    async def payouts(batch: Batch[Handled], work: Work) -> None:
        """Decides about paying out: when a day is paid, and what is paid again."""
        await decisions.decide(batch, work)

    return slice_router
