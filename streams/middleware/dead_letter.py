"""Decides what is set aside: what cannot be decoded, and what fails although everything else goes through."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import structlog

from streams.intake.classify import BatchFailed, Kind, Outage, classified_as
from streams.intake.decode import clip, decode_all
from streams.intake.record import Reason, Rejection
from streams.middleware.step import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.intake.classify import Classifiers
    from streams.intake.record import Record
    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage

__all__ = ["DeadLetter"]

log = structlog.get_logger(__name__)


class DeadLetter(Step):
    """Decodes the records and isolates those that make a transaction fail.

    A decider that raises costs nothing here: the unit of work parks its record in the batch's own transaction. Only
    when a transaction as a whole fails is the delivery redone in halves, in order, until the record at fault stands
    alone.
    """

    _group = ""
    _classifiers: Classifiers = MappingProxyType({})

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Handle the delivery, within a time budget; what is not finished by then is read again.

        Each delivery settles at least one record, however slow it is, so that the group always comes on.
        """
        decode_all(message.records, subscription.catalog, subscription.accepts, subscription.topic_prefix)
        deadline = time.monotonic() + subscription.limits.redo_budget_seconds
        self._group = subscription.group
        self._classifiers = subscription.classifiers
        await self._handle(call_next, message, message.records, deadline)

    async def _handle(self, call_next: Any, message: IntakeMessage, records: Sequence[Record], deadline: float) -> None:
        try:
            await self.call_part(call_next, message.part(records))
        except BatchFailed as failure:
            if time.monotonic() >= deadline and any(record.outcome is not None for record in message.records):
                log.warning("redoing in halves takes too long; the rest is read again", group=self._group)
                return
            if len(records) == 1:
                if len(message.records) == 1 and await self._second_try(call_next, message):
                    return
                await self._set_aside(call_next, message, records[0], failure)
                return
            middle = len(records) // 2
            await self._handle(call_next, message, records[:middle], deadline)
            if all(record.outcome is not None for record in records[:middle]):
                await self._handle(call_next, message, records[middle:], deadline)

    async def _second_try(self, call_next: Any, message: IntakeMessage) -> bool:
        """Try a delivery of one record once more, as halving would have done with a larger one."""
        try:
            await self.call_part(call_next, message.part(message.records))
        except BatchFailed:
            return False
        return True

    async def _set_aside(self, call_next: Any, message: IntakeMessage, record: Record, failure: BatchFailed) -> None:
        """Park one record in a transaction of its own, since its handler's was rolled back."""
        error = failure.__cause__ or failure
        poison = classified_as(error, self._classifiers) is Kind.POISON
        reason = Reason.INVALID if poison else Reason.FAILED
        record.rejection = Rejection(reason, clip(str(error)) or "no text", type(error).__name__)
        try:
            await self.call_part(call_next, message.part([record]))
        except BatchFailed as again:
            raise Outage(f"{record!r} can be neither handled nor parked: {again.__cause__}") from again
