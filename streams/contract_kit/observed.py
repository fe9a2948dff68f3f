"""What a service has written down about the records that it took, read from its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from streams.contract_kit.records import Counts, ParkedRecord
from streams.intake.tables import parked, progress
from streams.outbox.headers import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Table

    from streams.storage.database import Database

__all__ = ["Observed", "without_prefix"]


def without_prefix(prefix: str) -> Callable[[str], str]:
    """Strip a prefix from names; a name that should have it and does not is made unmistakable."""

    def strip(name: str) -> str:
        return name.removeprefix(prefix) if name.startswith(prefix) else f"{name} (without the prefix {prefix})"

    return strip


class Observed:
    """Parked records and counts, for a transport to answer with. Prefixes are stripped.

    Args:
        database: the service's.
        topic_prefix, group_prefix: what the service's topics and groups begin with.
    """

    def __init__(self, database: Database, topic_prefix: str, group_prefix: str) -> None:
        self._database = database
        self._topic = without_prefix(topic_prefix)
        self._group = without_prefix(group_prefix)

    async def parked(self) -> list[ParkedRecord]:
        """The unresolved parked records, oldest first."""
        columns = parked.c
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(
                    columns.group_name,
                    columns.topic,
                    columns.partition,
                    columns.offset,
                    columns.key,
                    columns.value,
                    columns.headers,
                    columns.reason,
                    columns.state,
                    columns.error,
                    columns.error_type,
                )
                .where(columns.resolved_at_ms.is_(None))
                .order_by(columns.id)
            )
            return [
                ParkedRecord(
                    self._group(row[0]),
                    self._topic(row[1]),
                    *row[2:6],
                    unpack(row[6]),
                    *row[7:9],
                    row[9] or "",
                    row[10] or "",
                )
                for row in rows
            ]

    async def counts(self) -> dict[str, Counts]:
        """What became of the records, by group."""
        names = Counts.__slots__
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(progress.c.group_name, *(func.sum(progress.c[name]) for name in names)).group_by(
                    progress.c.group_name
                )
            )
            return {self._group(row[0]): Counts(*map(int, row[1:])) for row in rows}

    async def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows in one transaction."""
        async with self._database.write() as connection:
            await connection.execute(insert(table), list(rows))
