"""Tells an observer what became of each delivery. Counts per batch, so that it costs per batch."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from streams.intake.record import Outcome
from streams.middleware.step import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faststream import ContextRepo

    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage
    from streams.middleware.step import Subscriptions

__all__ = ["DeliveryReport", "IntakeObserver", "Telemetry"]


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What became of one delivery.

    Attributes:
        group: whose it was.
        outcomes: how many records per topic and outcome; what is unfinished is not among them.
        unfinished: how many records will be read again.
        seconds: how long it took.
    """

    group: str
    outcomes: Mapping[tuple[str, str], int]
    unfinished: int
    seconds: float


class IntakeObserver(Protocol):
    """Frees intake from any one telemetry library."""

    def delivered(self, report: DeliveryReport, /) -> None:
        """Called after every delivery; must be quick and must not raise."""
        ...


class Telemetry(Step):
    """Measures the steps inside it."""

    def __init__(
        self,
        msg: Any,
        /,
        *,
        context: ContextRepo,
        subscriptions: Subscriptions,
        observer: IntakeObserver | None,
    ) -> None:
        super().__init__(msg, context=context, subscriptions=subscriptions)
        self._observer = observer

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Report, also on the way of an exception."""
        if self._observer is None:
            return await call_next(message)
        started = time.perf_counter()
        try:
            return await call_next(message)
        finally:
            outcomes = Counter(
                (record.topic, record.outcome.value)
                for record in message.records
                if record.outcome is not None and not (message.released and record.outcome is Outcome.PARKED)
            )
            unfinished = 0 if message.released else sum(record.outcome is None for record in message.records)
            seconds = time.perf_counter() - started
            self._observer.delivered(DeliveryReport(subscription.group, outcomes, unfinished, seconds))
