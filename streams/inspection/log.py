"""What stands in topics, read from their beginnings to where they end now, without a consumer group."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from pydantic_core import from_json

from streams.inspection.log_ends import BrokerUnreachable, quiet_consumer
from streams.outbox.envelope import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Consumer, Message

__all__ = ["EventFilter", "read_events"]

BATCH_RECORDS = 1000
POLL_SECONDS = 0.5
SILENCE_SECONDS = 10.0
"""No record and no end for so long: the broker has gone."""
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which records to give; None: any."""

    type: str | None = None
    key: str | None = None


def read_events(bootstrap_servers: str, topics: Iterable[str], wanted: EventFilter) -> Iterator[dict[str, Any]]:
    """Every record that was there when this began, within a partition in order.

    Each is {topic, partition, offset, timestamp, key, type, id, time, headers, data}; `data` is None for a tombstone,
    {"base64": ...} where the body is not JSON.

    Raises:
        BrokerUnreachable: nobody answers.
    """
    consumer = quiet_consumer(
        bootstrap_servers, "payday-events", **{"enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    try:
        ends = _ends(consumer, frozenset(topics))
        consumer.assign([TopicPartition(topic, number, low) for (topic, number), (low, _high) in ends.items()])
        yield from (shown for record in _records(consumer, ends) if (shown := _shown(record, wanted)) is not None)
    except KafkaException as error:
        raise BrokerUnreachable(f"Kafka at {bootstrap_servers} does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _ends(consumer: Consumer, topics: frozenset[str]) -> dict[tuple[str, int], tuple[int, int]]:
    metadata = consumer.list_topics(timeout=TIMEOUT_SECONDS)
    ends = {}
    for topic in sorted(topics & metadata.topics.keys()):
        for partition in sorted(metadata.topics[topic].partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_SECONDS)
            if high > low:
                ends[topic, partition] = (low, high)
    return ends


def _records(consumer: Consumer, ends: dict[tuple[str, int], tuple[int, int]]) -> Iterator[Message]:
    """Until each partition has come to the end that was noted, or has no more."""
    unfinished = set(ends)
    heard = time.monotonic()
    while unfinished:
        batch = consumer.consume(BATCH_RECORDS, POLL_SECONDS)
        if batch:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_SECONDS:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  a public constant of librdkafka
        for record in batch:
            key = (record.topic() or "", record.partition() or 0)
            error = record.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  as above
                    unfinished.discard(key)
                continue
            offset = record.offset() or 0
            if key in unfinished and offset < ends[key][1]:
                yield record
            if offset >= ends[key][1] - 1:
                unfinished.discard(key)


def _shown(record: Message, wanted: EventFilter) -> dict[str, Any] | None:
    headers = [(name, _text(value)) for name, value in _headers(record)]
    attributes = {name: value for name, value in headers if isinstance(value, str)}
    key = _text(record.key())
    if (wanted.type is not None and attributes.get("ce_type") != wanted.type) or (
        wanted.key is not None and key != wanted.key
    ):
        return None
    return {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": format_time(max(record.timestamp()[1], 0)),
        "key": key,
        "type": attributes.get("ce_type"),
        "id": attributes.get("ce_id"),
        "time": attributes.get("ce_time"),
        "headers": [list(pair) for pair in headers],
        "data": _data(record.value()),
    }


def _headers(record: Message) -> list[tuple[str, str | bytes | None]]:
    return cast("list[tuple[str, str | bytes | None]]", record.headers() or [])


def _data(value: str | bytes | None) -> Any:
    if value is None:
        return None
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return _text(value) if isinstance(value, str) else {"base64": base64.b64encode(value).decode()}


def _text(value: str | bytes | None) -> str | dict[str, str] | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
