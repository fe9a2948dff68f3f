"""How the demo's company hears what the app has decided."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from confluent_kafka import TopicPartition

from contracts.tasks import TaskAssigned
from streams.inspection.log_ends import quiet_consumer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AssignmentFeed"]

CONSUME_SECONDS = 0.05


class AssignmentFeed:
    """Reads `task-assigned` events as a client of the app would: without a group, from the start of the topic."""

    def __init__(self, address: str, topic_prefix: str) -> None:
        self._topic = topic_prefix + "tasks.events"
        self._consumer = quiet_consumer(address, "demo-company", **{"auto.offset.reset": "earliest"})
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self, hear: Callable[[str, str], None]) -> None:
        """Call `hear` with task and worker of every assignment."""
        partitions = self._consumer.list_topics(self._topic, timeout=5).topics[self._topic].partitions
        self._consumer.assign([TopicPartition(self._topic, number, 0) for number in partitions])
        self._task = asyncio.get_running_loop().create_task(self._read(hear))

    async def close(self) -> None:
        """Stop reading."""
        self._closing = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._consumer.close)

    async def _read(self, hear: Callable[[str, str], None]) -> None:
        while not self._closing:
            for record in await asyncio.to_thread(self._consumer.consume, 500, CONSUME_SECONDS):
                headers = dict(record.headers() or ())
                if record.error() is None and headers.get("ce_type") == b"tasks.task-assigned.v1":
                    event = TaskAssigned.decode(cast("bytes", record.value()))
                    hear(event.task_id, event.worker_id)
