"""Keeps writers to the embedded broker from overrunning their readers.

The mock cluster keeps about 5 MB of each partition and drops what is older, read or not. So a writer waits whenever a
topic could hold more unread bytes than one partition keeps. What has been read is asked of the database, where it is
exact and immediate; Kafka's own committed offsets are up to a second behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from streams.embedded.broker import RETAINED_BYTES_PER_PARTITION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

__all__ = ["Pacer", "ReadersStalled"]

BUDGET_BYTES = RETAINED_BYTES_PER_PARTITION * 3 // 5
"""Unread bytes of a topic that a writer lets stand: they may all be in one partition, and a record costs the broker
more than its payload."""
RECORD_OVERHEAD_BYTES = 100
POLL_SECONDS = 0.02
STALL_SECONDS = 30.0


class ReadersStalled(Exception):
    """The readers of a topic do not come on, and the embedded broker cannot keep more for them."""


class Pacer:
    """Lets bytes through as long as the readers keep up.

    It counts in halves of the budget: when one half is full it notes the log's ends, and when the next half is full it
    waits until every reader has passed that note. So readers always have half a budget ahead of them.

    Args:
        log_ends: the ends of a topic's partitions now.
        positions: where each group that reads a topic stands, by partition; what is missing stands at 0.
        read_topics: the topics that some group reads; others are nobody's loss.
        stall_seconds: how long to wait for readers; None waits for ever, for a writer that can hold on.
    """

    def __init__(
        self,
        log_ends: Callable[[str], Awaitable[Mapping[int, int]]],
        positions: Callable[[str], Awaitable[Sequence[Mapping[int, int]]]],
        read_topics: Collection[str],
        stall_seconds: float | None = STALL_SECONDS,
    ) -> None:
        self._log_ends = log_ends
        self._positions = positions
        self._read_topics = frozenset(read_topics)
        self._stall_seconds = stall_seconds
        self._written: defaultdict[str, int] = defaultdict(int)
        self._notes: dict[str, Mapping[int, int]] = {}

    async def before_writing(self, sizes: Sequence[tuple[str, int]], /) -> None:
        """Wait until so many bytes per topic may be written.

        Raises:
            ReadersStalled: nobody read a topic on in time.
        """
        for topic, size in sizes:
            if topic in self._read_topics:
                self._written[topic] += size + RECORD_OVERHEAD_BYTES
        for topic, written in list(self._written.items()):
            if written > BUDGET_BYTES / 2:
                self._written[topic] = 0
                await self._wait_for_readers(topic)
                self._notes[topic] = await self._log_ends(topic)

    async def _wait_for_readers(self, topic: str) -> None:
        note = self._notes.get(topic, {})
        deadline = None if self._stall_seconds is None else time.monotonic() + self._stall_seconds
        while not all(_passed(position, note) for position in await self._positions(topic)):
            if deadline is not None and time.monotonic() > deadline:
                raise ReadersStalled(
                    f"{topic} holds as much unread as the embedded broker can keep, and for {self._stall_seconds:g} s "
                    "nobody has read on: start `payday run` in this home"
                )
            await asyncio.sleep(POLL_SECONDS)


def _passed(position: Mapping[int, int], note: Mapping[int, int]) -> bool:
    return all(position.get(partition, 0) >= end for partition, end in note.items())
