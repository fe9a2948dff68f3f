"""One sequence out of many partitions: each message after the one that caused it, as it happened.

Kafka orders records within a partition only, and two clocks or two records in one millisecond tell nothing about which
was first; a cause and its effect do.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.contract_kit.wire_log import WireRecord

__all__ = ["in_causal_order"]


def in_causal_order(records: Iterable[WireRecord]) -> list[WireRecord]:
    """Keep the order within each partition, put causes before effects, and go by time otherwise.

    Where causes go round in a circle, which only a broken service does, time alone decides.
    """
    queues: dict[tuple[str, int], deque[WireRecord]] = {}
    for one in sorted(records, key=lambda one: one.offset):
        queues.setdefault((one.record.topic, one.partition), deque()).append(one)
    pending = {one.record.id for queue in queues.values() for one in queue}
    ordered: list[WireRecord] = []
    while queues:
        heads = [queue[0] for queue in queues.values()]
        free = [one for one in heads if one.record.cause_id not in pending] or heads
        first = min(free, key=lambda one: one.timestamp_ms)
        place = (first.record.topic, first.partition)
        queues[place].popleft()
        if not queues[place]:
            del queues[place]
        pending.discard(first.record.id)
        ordered.append(first)
    return ordered
