"""One record as it came from Kafka, and what has become of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from streams.intake.parked_row import ParkedRow

if TYPE_CHECKING:
    from streams.outbox.headers import Headers

__all__ = ["KafkaRecord", "Outcome", "PartitionKey", "Reason", "Record", "Rejection", "hash_of"]

PartitionKey = tuple[str, int]
"""Topic and partition."""


class KafkaRecord(Protocol):
    """What intake reads of a `confluent_kafka.Message`."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | str | None: ...
    def value(self) -> bytes | str | None: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...


class Outcome(StrEnum):
    """What a committed transaction did with a record. Each record that is taken gets exactly one."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    PARKED = "parked"


class Reason(StrEnum):
    """Why a record was parked."""

    UNDECODABLE = "undecodable"
    INVALID = "invalid"
    ID_CONFLICT = "id-conflict"
    UNKNOWN_TYPE = "unknown-type"
    FAILED = "failed"
    CRASHED = "crashed"
    BEHIND = "behind"

    @property
    def holds_key(self) -> bool:
        """Whether later records of the same key wait behind it.

        A record that nobody can read says nothing about its key's state, so it does not hold it.
        """
        return self not in {Reason.UNDECODABLE, Reason.INVALID, Reason.ID_CONFLICT}

    @property
    def is_dead_at_once(self) -> bool:
        """Whether trying again by itself is senseless."""
        return self not in {Reason.UNKNOWN_TYPE, Reason.FAILED, Reason.BEHIND}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record cannot be handled now.

    Attributes:
        reason: the class of the failure.
        error: one bounded line for a person.
        error_type: the exception's class name; records are grouped by it.
        stack: where a handler failed, if it was a handler.
    """

    reason: Reason
    error: str
    error_type: str
    stack: str | None = None


@dataclass(slots=True, eq=False)
class Record:
    """A record between poll and commit.

    The first block is the original, byte by byte; it is what parking keeps. The second is filled by decoding, the
    third by the transaction that takes it.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    decoded: bool = False
    identity: tuple[str, str] | None = None
    """(`ce_source`, `ce_id`): CloudEvents promises that the pair is unique. None where the record names none."""
    attributes: dict[str, str] = field(default_factory=dict)
    time_ms: int = 0
    message: Any = None
    rejection: Rejection | None = None

    outcome: Outcome | None = None
    position: int = 0
    """The how many-th of its transaction; of two records of a key the earlier one goes first."""
    parked: ParkedRow | None = None
    """Where it comes back from, if it was parked before."""

    partition_key: PartitionKey = field(init=False)
    _body_hash: bytes | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.partition_key = (self.topic, self.partition)

    @classmethod
    def from_kafka(cls, raw: KafkaRecord) -> Record:
        """Take over what Kafka delivered. Never raises: what cannot even be read becomes a rejection."""
        rejection = None
        headers: Headers = []
        try:
            headers = raw.headers() or []
        except (UnicodeDecodeError, ValueError, TypeError) as error:
            rejection = Rejection(Reason.UNDECODABLE, "a header's name is not UTF-8", type(error).__name__)
        record = cls(
            raw.topic() or "",
            raw.partition() or 0,
            raw.offset() or 0,
            raw.timestamp()[1],
            _as_bytes(raw.key()),
            _as_bytes(raw.value()),
            headers,
            rejection=rejection,
        )
        if isinstance(raw, ParkedRow):
            record.parked = raw
            # What an operator edited is still the message with the original's id: a repeat of that is a duplicate.
            record._body_hash = hash_of(raw.original_value)
        return record

    @property
    def type(self) -> str | None:
        """The `ce_type`, where the record names one."""
        return self.attributes.get("ce_type")

    @property
    def body_hash(self) -> bytes:
        """Tells one body from another. Asked for twice per record, worked out once."""
        if self._body_hash is None:
            self._body_hash = hash_of(self.value)
        return self._body_hash

    @property
    def record_hash(self) -> bytes:
        """Tells one record from another at the same offset of a topic that was made anew."""
        digest = blake2b(digest_size=16)
        for part in (
            self.key,
            self.value,
            *(part for name, value in self.headers for part in (name.encode(), value)),
        ):
            digest.update(b"\x00" if part is None else b"\x01%d:" % len(part) + part)
        return digest.digest()

    @property
    def key_hash(self) -> str | None:
        """The key as an index column."""
        return None if self.key is None else ParkedRow.hash_of(self.key)

    def __repr__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def hash_of(value: bytes | None) -> bytes:
    """Tells one body from another."""
    return blake2b(value or b"", digest_size=16).digest()


def _as_bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
