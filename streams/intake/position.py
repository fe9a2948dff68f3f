"""How far a group has come in each partition: the counts, and the compare-and-set that fences a replaced consumer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from streams.intake.classify import Fenced
from streams.intake.tables import progress
from streams.storage.bulk import insert_new_rows
from streams.storage.errors import DatabaseBusy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import PartitionKey

__all__ = ["Advance", "Position", "load_positions", "save_advance"]


@dataclass(frozen=True, slots=True)
class Position:
    """A row of `progress` as this consumer knows it.

    Attributes:
        epoch: of the row; None where there is no row yet.
        next_offset: the first offset that is not finished; None where there is no row yet.
        claimed: whether this consumer has written the row since the partition was assigned to it.
    """

    epoch: int | None
    next_offset: int | None
    claimed: bool


@dataclass(slots=True)
class Advance:
    """What one transaction adds to a partition's progress."""

    first_offset: int
    next_offset: int
    consumed: int = 0
    handled: int = 0
    duplicate: int = 0
    parked: int = 0
    lost: int = 0
    skipped: int = 0

    def take(self, offset: int) -> None:
        """Count a record that is taken; they come in the partition's order."""
        self.consumed += 1
        self.next_offset = offset + 1

    def check_conservation(self) -> None:
        """Refuse to write down that a record vanished or was counted twice."""
        outcomes = self.handled + self.duplicate + self.parked
        if self.consumed != outcomes:
            raise AssertionError(f"{self.consumed} records taken, {outcomes} of them with an outcome")


_ADVANCE = (
    update(progress)
    .where(
        progress.c.group_name == bindparam("in_group"),
        progress.c.topic == bindparam("in_topic"),
        progress.c.partition == bindparam("in_partition"),
        progress.c.epoch == bindparam("known_epoch"),
        progress.c.next_offset == bindparam("known_offset"),
    )
    .values(
        epoch=bindparam("new_epoch"),
        next_offset=bindparam("new_offset"),
        consumed=progress.c.consumed + bindparam("more_consumed"),
        handled=progress.c.handled + bindparam("more_handled"),
        duplicate=progress.c.duplicate + bindparam("more_duplicate"),
        parked=progress.c.parked + bindparam("more_parked"),
        lost=progress.c.lost + bindparam("more_lost"),
        skipped=progress.c.skipped + bindparam("more_skipped"),
        updated_at_ms=bindparam("now_ms"),
    )
)


async def load_positions(
    connection: AsyncConnection, group: str, partitions: Iterable[PartitionKey]
) -> dict[PartitionKey, Position]:
    """The position of each partition, unclaimed; partitions without a row get one without an offset."""
    wanted = set(partitions)
    rows = await connection.execute(
        select(progress.c.topic, progress.c.partition, progress.c.epoch, progress.c.next_offset).where(
            progress.c.group_name == group, progress.c.topic.in_(sorted({topic for topic, _ in wanted}))
        )
    )
    found = {(row.topic, row.partition): Position(row.epoch, row.next_offset, claimed=False) for row in rows}
    return {key: found.get(key, Position(None, None, claimed=False)) for key in wanted}


async def save_advance(
    connection: AsyncConnection, group: str, key: PartitionKey, known: Position, advance: Advance, now_ms: int
) -> Position:
    """Move a partition's progress from where this consumer knows it to be.

    Returns:
        The position to know from then on, once the transaction has committed.

    Raises:
        Fenced: the row is not where it was left, so that another consumer owns the partition now.
    """
    advance.check_conservation()
    topic, partition = key
    if known.epoch is None:
        row = {
            "group_name": group,
            "topic": topic,
            "partition": partition,
            "epoch": 1,
            "first_offset": advance.first_offset,
            "next_offset": advance.next_offset,
            "consumed": advance.consumed,
            "handled": advance.handled,
            "duplicate": advance.duplicate,
            "parked": advance.parked,
            "lost": advance.lost,
            "skipped": advance.skipped,
            "updated_at_ms": now_ms,
        }
        try:
            await insert_new_rows(connection, progress, tuple(row), [tuple(row.values())])
        except DatabaseBusy as error:
            raise Fenced(f"{group} {topic}[{partition}] has been started by another consumer") from error
        return Position(1, advance.next_offset, claimed=True)
    epoch = known.epoch if known.claimed else known.epoch + 1
    result = await connection.execute(
        _ADVANCE,
        {
            "in_group": group,
            "in_topic": topic,
            "in_partition": partition,
            "known_epoch": known.epoch,
            "known_offset": known.next_offset,
            "new_epoch": epoch,
            "new_offset": advance.next_offset,
            "more_consumed": advance.consumed,
            "more_handled": advance.handled,
            "more_duplicate": advance.duplicate,
            "more_parked": advance.parked,
            "more_lost": advance.lost,
            "more_skipped": advance.skipped,
            "now_ms": now_ms,
        },
    )
    if result.rowcount != 1:
        raise Fenced(f"{group} {topic}[{partition}] is no longer at offset {known.next_offset} of epoch {known.epoch}")
    return replace(known, epoch=epoch, next_offset=advance.next_offset, claimed=True)
