"""The outermost step: after a delivery, stores the offsets of what is finished and seeks back to what is not.

Invariant: no offset is stored before the transaction that finished its record has committed, and nothing is lost on any
kind of exit, because FastStream swallows whatever escapes and would go on with the next batch.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from streams.intake.classify import Fenced, Outage
from streams.intake.parked_row import ParkedRow
from streams.middleware.step import Step

if TYPE_CHECKING:
    from types import TracebackType

    from streams.intake.record import PartitionKey
    from streams.intake.subscription import Subscription
    from streams.middleware.message import IntakeMessage

__all__ = ["Offsets"]

log = structlog.get_logger(__name__)

FENCED_WAIT_SECONDS = 0.1
"""Gives the group time to tell a replaced consumer that its partitions are gone."""


class Offsets(Step):
    """Notes a delivery as soon as it is seen, and settles it as the last thing that happens."""

    _delivered: tuple[tuple[str, int, int], ...] = ()
    _message: IntakeMessage | None = None

    async def on_receive(self) -> None:
        """Note what was delivered: an error in a later step's `on_receive` never reaches `step`."""
        if self.subscription is not None:
            raws = self.msg if isinstance(self.msg, tuple) else (self.msg,)
            if not isinstance(raws[0], ParkedRow):  # what was parked has had its offset stored
                self._delivered = tuple((raw.topic(), raw.partition(), raw.offset()) for raw in raws)

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """Turn an outage into a pause and a lost partition into reading anew; both leave records unfinished."""
        self._message = message
        if message.released:  # the release worker settles it
            return await call_next(message)
        if subscription.assignment.paused:  # polled before the pause took effect
            subscription.assignment.pause()
            return None
        switch = subscription.kill_switch
        try:
            subscription.admit()
            if switch.tripped is not None:
                part = message.part(message.records[: switch.probe_records(len(message.records))])
                return await self.call_part(call_next, part)
            return await call_next(message)
        except Outage as error:
            subscription.pause(error)
        except Fenced as error:
            log.warning("fenced", group=subscription.group, detail=str(error))
            subscription.forget_all()
            await asyncio.sleep(FENCED_WAIT_SECONDS)
        return None

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,  # noqa: ARG002  FastStream's signature
        exc_tb: TracebackType | None = None,  # noqa: ARG002
    ) -> bool | None:
        """Store what is finished, seek back to the first unfinished record of each partition."""
        subscription = self.subscription
        if subscription is None or not self._delivered:
            return False
        finished = self._finished()
        unfinished: dict[PartitionKey, int] = {}
        next_offsets: dict[PartitionKey, int] = {}
        for topic, partition, offset in sorted(self._delivered):
            key = (topic, partition)
            if (topic, partition, offset) in finished and key not in unfinished:
                next_offsets[key] = offset + 1
            else:
                unfinished.setdefault(key, offset)
        for key, offset in subscription.take_rewinds().items():
            unfinished[key] = min(offset, unfinished.get(key, offset))
        subscription.assignment.store(next_offsets)
        subscription.assignment.seek(unfinished)
        return _is_stray_cancellation(exc_type)

    def _finished(self) -> set[tuple[str, int, int]]:
        if self._message is None:
            return set()
        return {
            (record.topic, record.partition, record.offset)
            for record in self._message.records
            if record.outcome is not None
        }


def _is_stray_cancellation(exc_type: type[BaseException] | None) -> bool:
    """A cancellation that nobody asked of this task would silently end FastStream's consume loop: swallow it."""
    task = asyncio.current_task()
    return (
        exc_type is not None
        and issubclass(exc_type, asyncio.CancelledError)
        and task is not None
        and not task.cancelling()
    )
