"""One transaction's worth of parked records that are tried again.

Invariant: a row is claimed in the same transaction that handles it, and a replay moves a record from `parked` to one
other count. Whatever a claim did not get stays as it is, with everything behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.intake import inbox, release_store
from streams.intake.record import Reason
from streams.intake.unit_of_work import UnitOfWork
from streams.outbox.store import append
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.intake.kill_switch import Failure
    from streams.intake.parked_row import ParkedRow
    from streams.intake.record import PartitionKey, Record

__all__ = ["ReleaseWork"]


class ReleaseWork(UnitOfWork):
    """For a handler there is no difference to a unit of work with records from Kafka."""

    async def open(self) -> None:
        """Claim what may be handled, and decide as for any record, except that nothing is held before it."""
        self.now_ms = await database_time_ms(self.connection)
        claimed = await release_store.claim(self.connection, [_row_of(record) for record in self._records], self.now_ms)
        self._records = [record for record in self._records if _row_of(record).id in claimed]
        self._number()
        message_ids = [identity[1] for record in self._records if (identity := record.identity) is not None]
        seen = await inbox.find_in_inbox(self.connection, self._subscription.group, message_ids)
        for record in self._records:
            self._admit(record, seen)

    async def save(self) -> None:
        """Write everything down."""
        subscription, connection = self._subscription, self.connection
        handled = [record for record in self._live if id(record) not in self._parked_ids] + self._unneeded
        await self._consult_kill_switch()
        await append(connection, self._outgoing, self.now_ms)
        await inbox.add_to_inbox(connection, subscription.group, handled, self.now_ms)
        await self._save_failures()
        resolved = [_row_of(record).id for record in (*handled, *self._duplicates)]
        await release_store.resolve(connection, sorted(resolved), self.now_ms)
        await self._promote(handled)
        await self._count(handled)
        if self._outgoing:
            self._after_commit.append(subscription.wake_relay)

    async def _save_failures(self) -> None:
        retries = self._subscription.retries
        failed = []
        for record, rejection, holds in self._parked:
            if rejection.reason is Reason.BEHIND:
                continue
            row = _row_of(record)
            attempts = row.attempts + 1
            dead = retries.is_spent(rejection.reason, attempts)
            failed.append((row, rejection, holds, dead, self.now_ms + retries.delay_ms(attempts)))
        await release_store.fail(self.connection, failed)

    async def _promote(self, handled: Sequence[Record]) -> None:
        """Where a head is gone and none of this transaction has taken its place, the next one's turn comes."""
        gone = {_row_of(record).queue for record in (*handled, *self._duplicates)}
        gone |= {_row_of(record).queue for record, _, holds in self._parked if not holds}
        queues = {queue for queue in gone if queue is not None and queue not in self._held}
        await release_store.promote(self.connection, self._subscription.group, queues, self.now_ms)

    async def _count(self, handled: Sequence[Record]) -> None:
        counts: dict[PartitionKey, tuple[int, int, int]] = {}
        for records, one in ((handled, (1, 0, 0)), (self._duplicates, (0, 1, 0))):
            for record in records:
                before = counts.get(record.partition_key, (0, 0, 0))
                counts[record.partition_key] = (before[0] + one[0], before[1] + one[1], 0)
        await release_store.count(self.connection, self._subscription.group, counts)

    def _outcomes_in_order(self) -> list[Failure | None]:
        """What is parked has failed before: only a tripped switch asks for it, as a probe."""
        return super()._outcomes_in_order() if self._subscription.kill_switch.tripped is not None else []

    def finish(self) -> None:
        """Mark the outcomes. Only after the commit."""
        super().finish()
        self._subscription.released += len(self._records)


def _row_of(record: Record) -> ParkedRow:
    assert record.parked is not None, "only parked records are released"
    return record.parked
