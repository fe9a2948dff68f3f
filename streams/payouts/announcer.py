"""Events of work that goes on after the message that began it was handled, or that no message began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.outbox.envelope import originating

if TYPE_CHECKING:
    from contracts.message import Message
    from streams.outbox.envelope import MessageCatalog, Origin, OutgoingMessage

__all__ = ["Announcer"]


@dataclass(frozen=True, slots=True)
class Announcer:
    """Makes records for the outbox.

    Attributes:
        catalog: describes the events.
        topic_prefix: stands before their topics.
    """

    catalog: MessageCatalog
    topic_prefix: str

    def __call__(self, event: Message, origin: Origin, message_id: str) -> OutgoingMessage:
        """The record of an event.

        Args:
            event: of a catalogued type.
            origin: gives its time and, where a message is the cause, the headers that say so.
            message_id: its `ce_id`.
        """
        return originating(self.catalog, event, origin, message_id, topic_prefix=self.topic_prefix)
