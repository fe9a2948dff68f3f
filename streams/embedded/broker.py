"""A Kafka broker inside this process, for trying out and for tests.

It is librdkafka's mock cluster: it speaks the real protocol, with groups, commits and idempotent producers, also to
other processes. Its limits, which are stated wherever it is used: it forgets everything when it stops, and it keeps
about 5 MB per partition, dropping what is older, read or not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from confluent_kafka import Producer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

__all__ = ["LIMITS", "PARTITIONS", "RETAINED_BYTES_PER_PARTITION", "EmbeddedBroker"]

PARTITIONS = 4
"""Of every topic; the mock makes them when a topic is first asked for."""
RETAINED_BYTES_PER_PARTITION = 5_000_000
LIMITS = (
    "the embedded broker keeps messages in memory only: it forgets them when it stops, and of each partition it keeps "
    "the newest 5 MB, read or not. For trying out and tests; use Apache Kafka for anything that matters."
)
METADATA_TIMEOUT_SECONDS = 10.0


class EmbeddedBroker:
    """A broker that lives as long as this object is open.

    Args:
        topics: made at start.
        address_file: where other processes of this home find it; removed when it stops.
    """

    def __init__(self, topics: Iterable[str], address_file: Path | None = None) -> None:
        self._address_file = address_file
        self._client: Producer | None = Producer(
            {"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "log_level": 3}
        )
        metadata = self._client.list_topics(timeout=METADATA_TIMEOUT_SECONDS)
        (broker,) = metadata.brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        for topic in topics:
            self._client.list_topics(topic, timeout=METADATA_TIMEOUT_SECONDS)
        if address_file is not None:
            address_file.parent.mkdir(parents=True, exist_ok=True)
            fresh = address_file.with_name(f"{address_file.name}.{os.getpid()}")
            fresh.write_text(self.address + "\n")
            fresh.replace(address_file)

    def stop(self) -> None:
        """Stop, and forget every message."""
        self._client = None
        if self._address_file is not None and self._address_file.exists():
            if self._address_file.read_text().strip() == self.address:
                self._address_file.unlink()
            self._address_file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
