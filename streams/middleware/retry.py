"""Redoes a transaction that lost a race, and tells an outage from a failure."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from streams.intake.classify import BatchFailed, Fenced, Kind, Outage, judge
from streams.middleware.step import Step
from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage

__all__ = ["Retry"]

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.01, 0.5


class Retry(Step):
    """What leaves this step is `Outage`, `Fenced`, `BatchFailed` or a cancellation."""

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Run the transaction until it commits or fails for a reason that trying again does not mend.

        It is redone once even if the first attempt has used up the time, as that of a frozen process has: what it
        finds then shows whether somebody else owns the partition by now.
        """
        deadline = time.monotonic() + subscription.limits.contention_budget_seconds
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        redone = False
        while True:
            try:
                return await call_next(message)
            except (Outage, Fenced):
                raise
            except Exception as error:  # the one place where an exception is judged
                verdict = await judge(error, subscription.database, subscription.classifiers)
                match verdict.kind:
                    case Kind.OUTAGE:
                        raise Outage(str(error), verdict.dependency) from error
                    case Kind.FAILURE | Kind.POISON:
                        raise BatchFailed(str(error)) from error
                    case Kind.CONTENTION:
                        if redone and time.monotonic() >= deadline:
                            raise Outage(f"contention does not end: {error}") from error
                        redone = True
                        await asyncio.sleep(backoff.next_seconds())
