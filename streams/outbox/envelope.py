"""How a message becomes a record: CloudEvents 1.0, Kafka binary mode.

Metadata travels in `ce_*` headers, the value is the body alone (CloudEvents Kafka protocol binding 1.0, section 3.2;
extension names are lower-case letters and digits, hence `correlationid` and `causationid`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from zlib import crc32

from streams.outbox.headers import pack_text
from streams.outbox.tables import LANES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CONTENT_TYPE",
    "SPEC_VERSION",
    "Cause",
    "Description",
    "MessageCatalog",
    "Origin",
    "OutgoingMessage",
    "derived_id",
    "format_time",
    "initial",
    "lane_of",
    "originating",
    "outgoing",
    "parse_time",
]

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"


class Description(NamedTuple):
    """What the catalogue knows of one message.

    `key` is None when the message answers a command and takes that command's key; `source` is None when nothing in
    this deployment emits it.
    """

    type: str
    topic: str
    key: bytes | None
    source: str | None


class MessageCatalog(Protocol):
    """All that the kit knows of messages. `contracts.catalog` is one; another app brings its own."""

    def describe(self, message: Any, /) -> Description:
        """Type, topic and key of a message that is to be published."""
        ...

    def encode(self, message: Any, /) -> bytes:
        """Its body."""
        ...

    def decoder(self, type_name: str, /) -> Callable[[bytes], Any] | None:
        """What reads bodies of this type, raising ValueError for an invalid one; None for an unknown type."""
        ...

    def topic_of(self, type_name: str, /) -> str:
        """The topic, without prefix, that a known type travels on."""
        ...

    def id_problem(self, message_id: str, /) -> str | None:
        """What is wrong with a `ce_id`, or None: a catalogue may ask for UUIDs."""
        ...


class Origin(NamedTuple):
    """Where something goes back to: a message, or a moment at which a schedule or a request asked for it.

    Attributes:
        time_ms: the `ce_time` of everything that follows from it.
        message_id: the `ce_id` of the message; None where there is none.
        correlation_id: of the first message in its chain of causes; None where there is no message.
        traceparent: W3C trace context, where known.
        key: the message's record key; answers to a command take it over.
    """

    time_ms: int
    message_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    key: bytes | None = None


class Cause(NamedTuple):
    """The message that is being handled, as that which it causes sees it.

    Attributes:
        id: its `ce_id`.
        source: its `ce_source`.
        type: its `ce_type`.
        time_ms: its `ce_time`, or the record's timestamp where it carries none.
        key: its record key; answers to a command take it over.
        correlation_id: of the first message in this chain of causes.
        traceparent: W3C trace context, where known.
        now_ms: when it is being handled.
    """

    id: str
    source: str
    type: str
    time_ms: int
    key: bytes | None
    correlation_id: str
    traceparent: str | None
    now_ms: int

    def derive(self, name: str) -> str:
        """An id for something that this message causes, the same whenever it is handled again.

        Args:
            name: tells apart what one message causes.
        """
        return derived_id(self.time_ms, self.source, self.id, name)

    @property
    def origin(self) -> Origin:
        """What is kept of it for work that goes on after it was handled."""
        return Origin(self.time_ms, self.id, self.correlation_id, self.traceparent, self.key)


class OutgoingMessage(NamedTuple):
    """A row of the outbox before it has an id. `headers` is packed."""

    topic: str
    key: bytes | None
    lane: int
    value: bytes
    headers: bytes
    message_id: str
    type: str


def derived_id(time_ms: int, *names: str) -> str:
    """A UUID that is a function of its arguments, in the layout of UUIDv7 (RFC 9562, section 5.7).

    The leading milliseconds keep ids of one time close together in an index: random keys slow a large one down
    eightfold. The rest is a hash of the names instead of random bits.
    """
    time = f"{max(time_ms, 0) & (2**48 - 1):012x}"
    rest = blake2b("\x00".join(names).encode(), digest_size=10).hexdigest()
    variant = "89ab"[int(rest[3], 16) & 3]
    return f"{time[:8]}-{time[8:]}-7{rest[:3]}-{variant}{rest[4:7]}-{rest[7:19]}"


def lane_of(topic: str, key: bytes | None) -> int:
    """The lane of a record key: a stable hash of topic and key."""
    return crc32(key or b"", crc32(topic.encode())) % LANES


@lru_cache(maxsize=10_000)  # many messages of a batch carry the same time
def format_time(time_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC."""
    instant = datetime.fromtimestamp(time_ms / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=10_000)
def parse_time(text: str) -> int:
    """RFC 3339 as milliseconds since the epoch.

    Raises:
        ValueError: it is none, or names no offset from UTC.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} names no offset from UTC")
    return round(instant.timestamp() * 1000)


def outgoing(
    catalog: MessageCatalog, message: Any, cause: Cause, index: int | str, *, topic_prefix: str = ""
) -> OutgoingMessage:
    """The record of an event that a message caused.

    Its id derives from the cause and `index` (or a name that tells it apart), its time is the cause's time, so that
    handling the cause again gives the same record.
    """
    source = catalog.describe(message).source or ""
    message_id = cause.derive(f"{source}/{index}")
    return originating(catalog, message, cause.origin, message_id, topic_prefix=topic_prefix)


def originating(
    catalog: MessageCatalog, message: Any, origin: Origin, message_id: str, *, topic_prefix: str = ""
) -> OutgoingMessage:
    """The record of an event whose id is known: what it tells of was begun by `origin`, and is not its direct work."""
    description = catalog.describe(message)
    headers = _attributes(message_id, description.type, description.source or "", origin.time_ms)
    if origin.correlation_id is not None:
        headers.append(("ce_correlationid", origin.correlation_id))
    if origin.message_id is not None:
        headers.append(("ce_causationid", origin.message_id))
    if origin.traceparent is not None:
        headers.append(("traceparent", origin.traceparent))
    key = description.key if description.key is not None else origin.key
    return _record(catalog, message, description, topic_prefix, key, message_id, headers)


def initial(
    catalog: MessageCatalog, message: Any, *, message_id: str, source: str, time_ms: int, topic_prefix: str = ""
) -> OutgoingMessage:
    """The record of a message that nothing else caused: it begins a chain of causes."""
    description = catalog.describe(message)
    headers = _attributes(message_id, description.type, source, time_ms)
    return _record(catalog, message, description, topic_prefix, description.key, message_id, headers)


def _attributes(message_id: str, type_name: str, source: str, time_ms: int) -> list[tuple[str, str]]:
    return [
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", message_id),
        ("ce_type", type_name),
        ("ce_source", source),
        ("ce_time", format_time(time_ms)),
        ("content-type", CONTENT_TYPE),
    ]


def _record(
    catalog: MessageCatalog,
    message: Any,
    description: Description,
    topic_prefix: str,
    key: bytes | None,
    message_id: str,
    headers: list[tuple[str, str]],
) -> OutgoingMessage:
    topic = topic_prefix + description.topic
    value = catalog.encode(message)
    return OutgoingMessage(topic, key, lane_of(topic, key), value, pack_text(headers), message_id, description.type)
