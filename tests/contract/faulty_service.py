"""The service with faults in it: a message whose correlation id names one of them is handled wrongly.

Run as a program it is the service of wire mode; a test in memory mode plants the faults in its own process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.accounting import PeriodClosed, TransactionApplied
from streams import catalog
from streams.accounting import domain
from streams.contract_kit import memory, service
from streams.outbox import producer
from streams.outbox.envelope import Description

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.accounting import AdjustBalance
    from contracts.message import Message
    from streams.accounting.domain import Rules
    from streams.intake.deciders import Change, State
    from streams.outbox.envelope import Cause
    from streams.outbox.headers import Headers

WRONG_AMOUNT = "wrong amount"
WRONG_KEY = "wrong key"
WRONG_TOPIC = "wrong topic"
NO_CAUSATION = "no causation"
EXTRA_EVENT = "extra event"


class _Faults:
    """The app's own functions with a fault around them."""

    def __init__(self) -> None:
        self._asked_for = ""
        self._adjust_balance = domain.adjust_balance
        self._describe = catalog.ContractCatalog().describe
        self._unpack = vars(producer)["unpack"]

    def adjust_balance(
        self, rules: Rules, state: State, command: AdjustBalance, cause: Cause
    ) -> Iterator[Change | Message]:
        self._asked_for = cause.correlation_id
        for outcome in self._adjust_balance(rules, state, command, cause):
            if isinstance(outcome, TransactionApplied) and self._asked_for == WRONG_AMOUNT:
                yield outcome.model_copy(update={"amount_minor": outcome.amount_minor + 1})
            else:
                yield outcome
            if isinstance(outcome, TransactionApplied) and self._asked_for == EXTRA_EVENT:
                yield PeriodClosed(period=outcome.period)

    def describe(self, message: Message) -> Description:
        described = self._describe(message)
        key = b"somebody else" if self._asked_for == WRONG_KEY else described.key
        topic = "tasks.events" if self._asked_for == WRONG_TOPIC else described.topic
        return Description(described.type, topic, key, described.source)

    def unpack(self, packed: bytes) -> Headers:
        headers: Headers = self._unpack(packed)
        if ("ce_correlationid", NO_CAUSATION.encode()) in headers:
            return [(name, value) for name, value in headers if name != "ce_causationid"]
        return headers


def plant(patch: pytest.MonkeyPatch) -> None:
    """Put the faults in place; the app must be composed after this."""
    faults = _Faults()
    patch.setattr(domain, "adjust_balance", faults.adjust_balance)
    patch.setattr(catalog.ContractCatalog, "describe", faults.describe)
    for module in (producer, memory):  # where rows of the outbox become records
        patch.setattr(module, "unpack", faults.unpack)


if __name__ == "__main__":
    plant(pytest.MonkeyPatch())
    service.main()
