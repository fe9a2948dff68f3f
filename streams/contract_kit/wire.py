"""The service as a process of its own, behind a broker: what is sent and what comes back are records on Kafka.

One process serves many tests, because starting one takes seconds. What makes each test begin with an empty service: the
service has come to rest, and then every table of its database is put back as the migrations left it, in one write
transaction. That is enough because the app keeps its state in the database; what a process of it remembers beside that
is:

- where it stands in each partition (`Subscription._known`, checked against `progress` with epoch and offset at every
  commit) and which gaps it has read again: the rows of `progress` stay, with their counts at zero; what lies before
  the test on the topics is known by its offsets and passed over;
- leases that it holds: the table `lease` stays;
- outbox rows that it has handed to its producer: there are none once the outbox has nothing unsent, and their numbers
  are never used again;
- caches of pure functions (prices, dates), which cannot be out of date.

Whoever adds another memory to the app has to name it here, or tests will meet the past of another test.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from streams.app import ALL_METADATA, SUBSCRIPTIONS
from streams.contract_kit.causal_order import in_causal_order
from streams.contract_kit.observed import Observed
from streams.contract_kit.records import Counts
from streams.contract_kit.report import ContractBroken
from streams.contract_kit.transport import NotSettled
from streams.contract_kit.wire_log import WireEnds
from streams.inspection.readings import app_readings
from streams.inspection.settled import NotSettled as StillMoving
from streams.inspection.settled import SettledWatch
from streams.intake.tables import progress
from streams.storage.database import Database
from streams.storage.lease_table import lease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Table

    from streams.contract_kit.records import Emitted, ParkedRecord
    from streams.contract_kit.services import Service
    from streams.contract_kit.wire_log import WireRecord

__all__ = ["WireTransport"]

SETTLE_SECONDS = 30.0
LOOK_SECONDS = 0.004
KEPT_TABLES = (progress, lease)
"""What the running process relies on finding as it left it."""


class WireTransport:
    """A `Transport` to a process. Made by `start`; one test at a time has it.

    Attributes:
        settled: False once the service has not come to rest, so that nobody else should rely on it.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._log = service.log
        self._database = Database(service.database_url)
        self._observed = Observed(self._database, service.topic_prefix, service.group_prefix)
        self._groups = [group for group in SUBSCRIPTIONS if group in service.wanted.slices]
        self._watch = SettledWatch(
            self._database,
            WireEnds(self._log),
            app_readings(service.topic_prefix, service.group_prefix),
            groups=[service.group_prefix + group for group in self._groups],
            pays="payouts" in service.wanted.slices,
        )
        self._written: set[tuple[str, int, int]] = set()
        self._homes: dict[tuple[str, bytes], int] = {}
        self.settled = True

    @classmethod
    async def start(cls, service: Service) -> WireTransport:
        """Take over a service that is ready, and make it forget what it did before."""
        transport = cls(service)
        try:
            await transport.settle()
            if service.seeds is None:
                service.seeds = await _rows(transport._database)
            await _put_back(transport._database, service.seeds)
            await transport._read()
        except BaseException:
            await transport.close()
            raise
        return transport

    async def send(self, records: Sequence[Emitted]) -> None:
        """Write to the topics; every record is acknowledged when this returns."""
        self._written |= await asyncio.to_thread(self._log.write, records)

    async def settle(self) -> None:
        """Look until two looks in a row agree that nothing is left to be read, carried out or published."""
        self.settled = False
        try:
            await self._watch.wait(SETTLE_SECONDS, sleep=self._between_looks)
        except StillMoving as error:
            raise NotSettled(f"{error}; the service said:\n{self._service.said}") from error
        self.settled = True

    async def emitted(self) -> Sequence[Emitted]:
        """What is new on the topics and was not written by the test, each message after its cause."""
        records = [one for one in await self._read() if one.place not in self._written]
        for one in records:
            self._check_partition(one)
        return [one.record for one in in_causal_order(records)]

    async def parked(self) -> Sequence[ParkedRecord]:
        """As the database has them."""
        return await self._observed.parked()

    async def counts(self) -> Mapping[str, Counts]:
        """As the database has them; groups that have taken nothing in this test are left out, as in memory."""
        return {group: counts for group, counts in (await self._observed.counts()).items() if counts != Counts()}

    def readers(self, topic: str) -> Sequence[str]:
        """The groups of the slices that the process runs."""
        return [group for group in self._groups if topic in SUBSCRIPTIONS[group]]

    async def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Straight into the database, beside the service."""
        await self._observed.write_rows(table, rows)

    async def close(self) -> None:
        """Let go of the service, which goes on."""
        await self._database.close()

    async def _between_looks(self, _seconds: float) -> None:
        self._service.check()
        await asyncio.sleep(LOOK_SECONDS)

    async def _read(self) -> list[WireRecord]:
        return await asyncio.to_thread(lambda: self._log.read(self._log.ends()))

    def _check_partition(self, one: WireRecord) -> None:
        """A key that changes its partition loses its order."""
        if one.record.key is None:
            return
        home = self._homes.setdefault((one.record.topic, one.record.key), one.partition)
        if home != one.partition:
            raise ContractBroken(
                f"the service emitted {one.record.type} with the key {one.record.key!r} to partition {one.partition} "
                f"of {one.record.topic}, an earlier record of the same key to partition {home}"
            )


def _tables() -> list[Table]:
    """What a test leaves traces in, in an order in which rows can be put."""
    return [table for metadata in ALL_METADATA for table in metadata.sorted_tables if table not in KEPT_TABLES]


async def _rows(database: Database) -> dict[Table, list[dict[str, Any]]]:
    async with database.read() as connection:
        return {
            table: [dict(row) for row in (await connection.execute(select(table))).mappings()] for table in _tables()
        }


async def _put_back(database: Database, seeds: Mapping[Table, list[dict[str, Any]]]) -> None:
    async with database.write() as connection:
        for table in reversed(_tables()):
            await connection.execute(delete(table))
        for table, rows in seeds.items():
            if rows:
                await connection.execute(insert(table), rows)
        await connection.execute(update(progress).values(dict.fromkeys(Counts.__slots__, 0)))
