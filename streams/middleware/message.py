"""The message that FastStream carries through the middlewares: records, not yet decoded."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn

from faststream.confluent import KafkaMessage

from streams.intake.batch import Batch
from streams.intake.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.intake.record import KafkaRecord

__all__ = ["IntakeMessage", "decode_message", "parse_message"]


class _NoConsumer:
    """Stands where FastStream keeps the consumer: offsets are stored by the `offsets` step alone."""

    async def commit(self) -> NoReturn:
        raise RuntimeError("do not acknowledge messages by hand: the offsets step stores what was committed")

    async def seek(self, topic: str, partition: int, offset: int) -> NoReturn:  # noqa: ARG002  FastStream's signature
        raise RuntimeError("do not reject messages by hand: the offsets step seeks back to what is unfinished")


class IntakeMessage(KafkaMessage):
    """A delivery, or a part of one.

    Attributes:
        records: those of this part, in the order of delivery.
        single: whether the handler takes one record at a time.
    """

    records: Sequence[Record]
    single: bool

    @property
    def released(self) -> bool:
        """Whether these were parked and are tried again."""
        return self.records[0].parked is not None

    def part(self, records: Sequence[Record]) -> IntakeMessage:
        """The same delivery reduced to some of its records. A copy decodes anew."""
        part = copy.copy(self)
        part.records = records
        return part


async def parse_message(raw: Any) -> IntakeMessage:
    """Wrap what the consumer delivered. Never raises, because FastStream skips what its parser refuses."""
    raws: tuple[KafkaRecord, ...] = raw if isinstance(raw, tuple) else (raw,)
    records = [Record.from_kafka(one) for one in raws]
    first, last = records[0], records[-1]
    message = IntakeMessage(
        raw_message=raw,
        body=b"",
        headers={},
        reply_to="",
        message_id=f"{first!r}..{last!r}",
        correlation_id="",
        consumer=_NoConsumer(),
        is_manual=True,
    )
    message.records = records
    message.single = not isinstance(raw, tuple)
    return message


async def decode_message(message: IntakeMessage) -> Any:
    """What the handler gets: a batch of decoded records, or the one message."""
    return message.records[0].message if message.single else Batch(message.records)
