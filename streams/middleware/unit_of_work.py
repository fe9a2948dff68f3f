"""The innermost step: one database transaction around the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from faststream import Context

from streams.intake.release_work import ReleaseWork
from streams.intake.unit_of_work import UnitOfWork
from streams.middleware.step import Step

if TYPE_CHECKING:
    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage

__all__ = ["UnitOfWorkStep", "Work"]

Work = Annotated[UnitOfWork, Context("work")]
"""The annotation by which a handler asks for the unit of work of its delivery."""


class UnitOfWorkStep(Step):
    """Opens a unit of work, lets the handler see what is live, saves, commits."""

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Only after the commit does any record of the delivery count as finished."""
        async with subscription.database.write() as connection:
            kind = ReleaseWork if message.released else UnitOfWork
            work = kind(connection, subscription, message.records)
            await work.open()
            if work.live:
                with self.context.scope("work", work):
                    await self.call_part(call_next, message.part(work.live))
            await work.save()
        work.finish()
