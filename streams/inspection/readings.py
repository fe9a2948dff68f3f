"""Which consumer group reads which topics, by their full names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from streams.app import SUBSCRIPTIONS
from streams.intake.tables import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Position", "Reading", "UnknownGroup", "all_topics", "app_readings", "choose", "load_positions"]


class UnknownGroup(LookupError):
    """A group that this app does not have and that has left no trace in the database."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A group and what it reads. All names carry their prefixes."""

    group: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A row of `progress`."""

    group: str
    topic: str
    partition: int
    next_offset: int


def app_readings(topic_prefix: str, group_prefix: str) -> tuple[Reading, ...]:
    """What this app's groups read."""
    return tuple(
        Reading(group_prefix + group, tuple(topic_prefix + topic for topic in topics))
        for group, topics in SUBSCRIPTIONS.items()
    )


async def load_positions(connection: AsyncConnection) -> tuple[Position, ...]:
    """How far each group has come in each partition."""
    columns = (progress.c.group_name, progress.c.topic, progress.c.partition, progress.c.next_offset)
    rows = await connection.execute(select(*columns).order_by(*columns[:3]))
    return tuple(Position(*row) for row in rows)


def choose(
    readings: Sequence[Reading], positions: Sequence[Position], named: Sequence[str], group_prefix: str
) -> tuple[Reading, ...]:
    """The groups that count: those named, or else every group that has ever made progress.

    A group that is not this app's (another prefix, another app in the same database) reads the topics that it has
    progress in.

    Args:
        readings: the app's own groups.
        positions: everything in `progress`.
        named: full names, or names without the prefix.
        group_prefix: tried before a name that is no full name.

    Raises:
        UnknownGroup: a name is neither the app's nor in `progress`.
    """
    known = {reading.group: reading for reading in readings}
    progressed: dict[str, set[str]] = {}
    for position in positions:
        progressed.setdefault(position.group, set()).add(position.topic)
    for group, topics in progressed.items():
        known.setdefault(group, Reading(group, tuple(sorted(topics))))
    if not named:
        return tuple(known[group] for group in sorted(progressed))
    chosen = []
    for name in named:
        full = name if name in known else group_prefix + name
        if full not in known:
            raise UnknownGroup(f"no group is called {name!r}; there are {', '.join(sorted(known))}")
        chosen.append(known[full])
    return tuple(chosen)


def all_topics(*readings: Reading) -> tuple[str, ...]:
    """Every topic once."""
    return tuple(dict.fromkeys(topic for reading in readings for topic in reading.topics))
