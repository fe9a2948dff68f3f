"""A parked record on its way back: what it takes to handle it as if it came from Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from streams.outbox.headers import unpack

if TYPE_CHECKING:
    from streams.outbox.headers import Headers

__all__ = ["ParkedRow"]

CREATE_TIME = 1
"""Kafka's number for a timestamp that the sender set."""


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """Answers as a `confluent_kafka.Message` does. An edited record is handled as edited.

    Attributes:
        id: of the row.
        edits: how often it has been edited; another number when it is claimed means that this is out of date.
        attempts: that failed.
        holds_key: whether later records of its key wait behind it.
    """

    id: int
    topic_name: str
    partition_number: int
    offset_number: int
    timestamp_ms: int
    key_bytes: bytes | None
    original_value: bytes | None
    original_headers: bytes
    attempts: int
    holds_key: bool
    edits: int
    edited_value: bytes | None
    edited_headers: bytes | None

    @property
    def queue(self) -> tuple[str, bytes] | None:
        """Topic and key of those who wait for each other; None where nobody waits for this record."""
        return (self.topic_name, self.key_bytes) if self.holds_key and self.key_bytes is not None else None

    @property
    def size_bytes(self) -> int:
        """Roughly what it takes in memory."""
        return len(self.value() or b"") + len(self.original_headers)

    @staticmethod
    def hash_of(key: bytes) -> str:
        """A key as it stands in the index: keys may be longer than an index allows."""
        return blake2b(key, digest_size=16).hexdigest()

    def topic(self) -> str:
        return self.topic_name

    def partition(self) -> int:
        return self.partition_number

    def offset(self) -> int:
        return self.offset_number

    def key(self) -> bytes | None:
        return self.key_bytes

    def value(self) -> bytes | None:
        return self.edited_value if self.edits else self.original_value

    def headers(self) -> Headers:
        return unpack(self.edited_headers if self.edits and self.edited_headers is not None else self.original_headers)

    def timestamp(self) -> tuple[int, int]:
        return (CREATE_TIME, self.timestamp_ms)
