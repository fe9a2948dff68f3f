"""The contracts as the kit's message catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.catalog import UnknownType, entry_for, entry_of
from streams.outbox.envelope import Description

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.message import Message

__all__ = ["ContractCatalog"]


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
