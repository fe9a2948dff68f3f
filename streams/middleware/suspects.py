"""Handles records singly after a process has died, so that the one that kills is found and set aside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streams.intake import suspects
from streams.intake.classify import Kind, Outage, classify
from streams.intake.decode import read_attributes
from streams.intake.record import Reason, Rejection
from streams.middleware.step import Step

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from faststream import ContextRepo

    from streams.intake.record import Record
    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage
    from streams.middleware.step import Subscriptions

__all__ = ["Suspects"]


class Suspects(Step):
    """Stands before decoding, which may be what kills.

    Costs one transaction when a partition's first records come, and nothing after that, unless its last owner died.
    """

    def __init__(
        self, msg: Any, /, *, context: ContextRepo, subscriptions: Subscriptions, one_at_a_time: asyncio.Lock
    ) -> None:
        super().__init__(msg, context=context, subscriptions=subscriptions)
        self._one_at_a_time = one_at_a_time

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Go on with all of the delivery, or with one record after the other while they are suspects."""
        if message.released:
            return await self._release(call_next, message, subscription)
        async with _outages_named(subscription):
            await subscription.take_over({record.partition_key for record in message.records})
        if not any(subscription.is_suspect(record) for record in message.records):
            return await call_next(message)
        for record in message.records:
            await self._alone(call_next, message, subscription, record)
            if record.outcome is None:  # nothing beyond an unfinished record is taken
                break
            subscription.cleared(record)
        return None

    async def _release(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        database, group, records = subscription.database, subscription.group, message.records
        async with _outages_named(subscription):
            async with database.read() as connection:
                unfinished = await suspects.unfinished_attempts(connection, group, records)
            if unfinished:
                for record in records:
                    await self._alone(call_next, message, subscription, record)
                return None
            async with database.write() as connection:
                await suspects.begin_attempts(connection, group, records)
        try:
            return await call_next(message)
        finally:  # whatever came of it, the process lives
            async with _outages_named(subscription), database.write() as connection:
                await suspects.end_attempts(connection, group, records)

    async def _alone(self, call_next: Any, message: IntakeMessage, subscription: Subscription, record: Record) -> None:
        database, group, most = subscription.database, subscription.group, subscription.limits.crash_limit
        async with self._one_at_a_time:
            async with _outages_named(subscription), database.write() as connection:
                attempts = await suspects.begin_attempt(connection, group, record)
            if attempts > most:
                read_attributes(record)
                text = f"the process has died {most} times while it handled this record"
                record.rejection = Rejection(Reason.CRASHED, text, "Crashed")
            try:
                await self.call_part(call_next, message.part([record]))
            finally:  # as above
                async with _outages_named(subscription), database.write() as connection:
                    await suspects.end_attempts(connection, group, [record])


@asynccontextmanager
async def _outages_named(subscription: Subscription) -> AsyncIterator[None]:
    """What keeps one from writing down an attempt is no record's fault."""
    try:
        yield
    except Outage:
        raise
    except Exception as error:
        if await classify(error, subscription.database) is Kind.FAILURE:
            raise
        raise Outage(str(error)) from error
