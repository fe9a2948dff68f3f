"""Lets a broker's subscribers take records that no Kafka delivered: for tests of what a service answers.

It stands here because FastStream is imported in this package alone. FastStream's own test broker is used for nothing
but the start: it sets up handlers and logger and opens no connection. Its fake publishing, which runs handlers inside
`publish()` without offsets or redelivery, is not used.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from faststream.confluent import TestKafkaBroker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faststream.confluent import KafkaBroker

__all__ = ["without_kafka"]


@asynccontextmanager
async def without_kafka(broker: KafkaBroker) -> AsyncIterator[None]:
    """Start a broker without a connection: `subscriber.process_message(batch)` then runs all its middlewares."""
    async with TestKafkaBroker(broker, connect_only=False):
        yield
