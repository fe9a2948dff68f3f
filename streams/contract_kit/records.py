"""What goes into a service and what comes out of it, as records: bytes, key, headers.

Invariant: nothing here depends on how the records travel, so that one test runs in memory and on the wire. Topics and
groups carry no prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contracts.message import Message
from streams.outbox.envelope import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.outbox.headers import Headers

__all__ = ["Counts", "Emitted", "ParkedRecord", "Received", "Sent"]

M = TypeVar("M", bound=Message, covariant=True)  # noqa: PLC0105  reads better in the signatures of the vocabulary


@dataclass(frozen=True, slots=True)
class Emitted:
    """A record: of the service to the world, or of the test to the service."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def attributes(self) -> dict[str, str]:
        """The headers that are readable text, by name."""
        readable: dict[str, str] = {}
        for name, value in self.headers:
            try:
                readable[name] = (value or b"").decode()
            except UnicodeDecodeError:
                continue
        return readable

    @property
    def id(self) -> str:
        """Its `ce_id`, empty where there is none."""
        return self.attributes.get("ce_id", "")

    @property
    def type(self) -> str:
        """Its `ce_type`, empty where there is none."""
        return self.attributes.get("ce_type", "")

    @property
    def cause_id(self) -> str:
        """The `ce_id` of the message that caused it, empty for one that stands at the beginning."""
        return self.attributes.get("ce_causationid", "")

    @property
    def correlation_id(self) -> str:
        """The `ce_id` of the first message in its chain of causes, unless the sender said otherwise."""
        return self.attributes.get("ce_correlationid", self.id)

    @property
    def time_ms(self) -> int:
        """Its `ce_time` in milliseconds since the epoch.

        Raises:
            ValueError: it carries none that can be read.
        """
        return parse_time(self.attributes.get("ce_time", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Emitted):
    """A record that the test has sent; `message` is None for raw bytes."""

    message: Message | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Emitted, Generic[M]):
    """A record that the service has emitted and that keeps its contract.

    `position` counts what the service emitted in the course of a test.
    """

    data: M
    position: int

    def has(self, contract: type[Message], fields: Mapping[str, Any]) -> bool:
        """Whether it is of a type and has these values."""
        return isinstance(self.data, contract) and all(
            getattr(self.data, name) == value for name, value in fields.items()
        )


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """A record that a group has set aside, unresolved."""

    group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    state: str
    error: str
    error_type: str = ""

    @property
    def place(self) -> tuple[str, str, int, int]:
        """What tells it apart from every other."""
        return (self.group, self.topic, self.partition, self.offset)

    def is_whole(self, record: Emitted) -> bool:
        """Whether it is this record, byte by byte."""
        kept = (self.topic, self.key, self.value, self.headers)
        return kept == (record.topic, record.key, record.value, record.headers)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records that a group has taken, over all partitions."""

    consumed: int = 0
    handled: int = 0
    duplicate: int = 0
    parked: int = 0
    discarded: int = 0
    lost: int = 0
    skipped: int = 0

    @property
    def conserved(self) -> bool:
        """Whether every record has exactly one outcome."""
        return self.consumed == self.handled + self.duplicate + self.parked + self.discarded
