"""The pace of writers to the embedded broker, put together from what the database and the broker say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.embedded.pacing import STALL_SECONDS, Pacer
from streams.inspection.log_ends import LogEndsReader
from streams.inspection.readings import all_topics, app_readings, load_positions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["embedded_pace"]


def embedded_pace(
    settings: Settings, database: Database, ends: LogEndsReader, stall_seconds: float | None = STALL_SECONDS
) -> Pacer:
    """Hold a writer back by what this home's groups have read.

    Args:
        settings: name prefixes of topics and groups.
        database: where the groups' progress is.
        ends: asks the embedded broker.
        stall_seconds: how long to wait for readers; None waits for ever.
    """
    readings = app_readings(settings.topic_prefix, settings.group_prefix)

    async def log_ends(topic: str) -> Mapping[int, int]:
        found = await ends.read([topic])
        return {partition: end.high for (_topic, partition), end in found.ends.items()}

    async def positions(topic: str) -> Sequence[Mapping[int, int]]:
        async with database.read() as connection:
            known = await load_positions(connection)
        groups = [reading.group for reading in readings if topic in reading.topics]
        return [
            {one.partition: one.next_offset for one in known if (one.group, one.topic) == (group, topic)}
            for group in groups
        ]

    return Pacer(log_ends, positions, all_topics(*readings), stall_seconds)
