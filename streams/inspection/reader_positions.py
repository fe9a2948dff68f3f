"""How far a topic's readers have come, for writers that must not overrun the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.inspection.readings import load_positions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from streams.inspection.log_ends import LogEndsSource
    from streams.inspection.readings import Position, Reading
    from streams.storage.database import Database

__all__ = ["ReaderPositions"]


class ReaderPositions:
    """Asks the broker where a topic ends, and the database where its readers stand.

    Args:
        database: awaited for the app's database each time, so that this may be made before the app is; None: there is
            none yet, so that nobody has read anything.
        broker: of the app.
        readings: the app's groups.
        always: full names of groups that count even before they have made progress. A group counts in any case once it
            has; as long as none has, all of them do.
    """

    def __init__(
        self,
        database: Callable[[], Awaitable[Database | None]],
        broker: LogEndsSource,
        readings: Sequence[Reading],
        always: Collection[str] = (),
    ) -> None:
        self._database = database
        self._broker = broker
        self._readings = tuple(readings)
        self._always = frozenset(always)

    async def log_ends(self, topic: str) -> Mapping[int, int]:
        """The offset that the next record of each partition will get.

        Raises:
            BrokerUnreachable: it cannot be asked.
        """
        found = await self._broker.read([topic])
        return {partition: end.high for (_topic, partition), end in found.ends.items()}

    async def positions(self, topic: str) -> Sequence[Mapping[int, int]]:
        """Per group that reads a topic, the next offset of each partition; what has not been begun is left out.

        Raises:
            BrokerUnreachable, StorageError: one of them cannot be asked.
        """
        interested = [reading for reading in self._readings if topic in reading.topics]
        foreign = (await self._broker.read([topic], interested)).foreign
        positions = await self._load()
        counting = {position.group for position in positions} | self._always
        return [
            {
                one.partition: one.next_offset
                for one in positions
                if one.group == reading.group
                and one.topic == topic
                and (one.group, topic, one.partition) not in foreign
            }
            for reading in interested
            if not counting or reading.group in counting
        ]

    async def _load(self) -> tuple[Position, ...]:
        database = await self._database()
        if database is None:
            return ()
        async with database.read() as connection:
            return await load_positions(connection)
