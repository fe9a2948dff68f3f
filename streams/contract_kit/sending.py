"""Records for a service, made from messages or from raw bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from contracts.catalog import entry_of
from streams.contract_kit.records import Sent
from streams.outbox.envelope import CONTENT_TYPE, SPEC_VERSION, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from contracts.message import Message
    from streams.outbox.headers import Headers

__all__ = ["Envelope", "headers_of", "raw_record", "record_of", "runs_by_topic"]

SOURCE = "payday/contract-kit"
"""The `ce_source` of what comes from outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a test may say about a message besides its data; None takes what a well-behaved sender would take.

    Attributes:
        id: its `ce_id`; a new UUID.
        at: its `ce_time`, aware; now.
        source: its `ce_source`; that of the catalogue, else `SOURCE`.
        key: the record key; that of the catalogue.
        correlation_id: its `ce_correlationid`; none.
        headers: more headers, or other values for the usual ones; None leaves one out.
    """

    id: str | None = None
    at: datetime | None = None
    source: str | None = None
    key: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str | bytes | None] | None = None


def headers_of(contract: type[Message], envelope: Envelope | None = None) -> dict[str, str | bytes]:
    """The headers of a well-formed record of a type."""
    envelope = envelope or Envelope()
    entry = entry_of(contract)
    time_ms = time.time_ns() // 1_000_000 if envelope.at is None else round(envelope.at.timestamp() * 1000)
    headers: dict[str, str | bytes | None] = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": envelope.id or str(uuid4()),
        "ce_type": entry.type_name,
        "ce_source": envelope.source or entry.source or SOURCE,
        "ce_time": format_time(time_ms),
        "content-type": CONTENT_TYPE,
        "ce_correlationid": envelope.correlation_id,
    }
    headers |= envelope.headers or {}
    return {name: value for name, value in headers.items() if value is not None}


def record_of(message: Message, envelope: Envelope | None = None) -> Sent:
    """The record of a message as a sender outside, or another slice, would write it."""
    entry = entry_of(message)
    key = envelope.key if envelope is not None and envelope.key is not None else None
    if key is None and entry.key is not None:
        key = entry.key(message)
    headers: Headers = [(name, _bytes(value)) for name, value in headers_of(type(message), envelope).items()]
    return Sent(entry.topic, None if key is None else key.encode(), message.encode(), headers, message=message)


def raw_record(
    topic: str,
    value: bytes | None,
    headers: Mapping[str, str | bytes | None] | None = None,
    key: str | bytes | None = None,
) -> Sent:
    """A record with exactly these bytes and headers."""
    pairs: Headers = [(name, None if one is None else _bytes(one)) for name, one in (headers or {}).items()]
    return Sent(topic, None if key is None else _bytes(key), value, pairs, message=None)


def runs_by_topic(records: Iterable[Sent]) -> Iterator[list[Sent]]:
    """Runs of records of one topic."""
    run: list[Sent] = []
    for record in records:
        if run and record.topic != run[-1].topic:
            yield run
            run = []
        run.append(record)
    if run:
        yield run


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
