"""The contracts as the kit's message catalogue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from contracts.catalog import UnknownType, entry_for, entry_of
from streams.outbox.envelope import Description

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.message import Message

__all__ = ["ContractCatalog"]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ContractCatalog:
    """Describes, encodes and decodes what stands in `contracts.catalog`."""

    def describe(self, message: Message) -> Description:
        """Type, topic, key and source of a message."""
        entry = entry_of(message)
        key = entry.key(message).encode() if entry.key is not None else None
        return Description(entry.type_name, entry.topic, key, entry.source)

    def encode(self, message: Message) -> bytes:
        """Its JSON body."""
        return message.encode()

    def decoder(self, type_name: str) -> Callable[[bytes], Message] | None:
        """What reads bodies of a type; None for a type that is in no contract."""
        try:
            return entry_for(type_name).contract.decode
        except UnknownType:
            return None

    def topic_of(self, type_name: str) -> str:
        """The topic that a type travels on."""
        return entry_for(type_name).topic

    def id_problem(self, message_id: str) -> str | None:
        """Ids are UUIDs: answers to a command carry its id in a field of that type."""
        return None if UUID.fullmatch(message_id) else "should be a UUID in lower case with hyphens"
