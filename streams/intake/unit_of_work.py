"""One transaction's worth of records.

Invariant: state changes, inbox rows, parked rows, outgoing events and progress of the records are saved in one database
transaction, and every record that was taken has exactly one outcome in it.

Life of a unit of work: `open` reads what decides about each record (progress, held keys, inbox) and leaves in `live`
those that a handler should see; the handler adds changes and events, and says which records failed; `save` writes it
all; after the commit `finish` marks the outcomes. The middleware drives these steps, a handler only sees the middle.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from streams.intake import inbox, parking
from streams.intake.classify import KillSwitchTripped, Kind, classified_as
from streams.intake.deciders import Identified
from streams.intake.decode import clip
from streams.intake.pauses import PauseCause, end_pause
from streams.intake.position import Advance, save_advance
from streams.intake.record import Outcome, Reason, Rejection
from streams.outbox.envelope import Cause, originating, outgoing
from streams.outbox.store import append
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.kill_switch import Failure
    from streams.intake.position import Position
    from streams.intake.record import PartitionKey, Record
    from streams.intake.subscription import Subscription
    from streams.outbox.envelope import OutgoingMessage

__all__ = ["UnitOfWork"]

STACK_MAX_CHARACTERS = 2000
BEFORE_ALL = -1
"""The position of what was there before the transaction began."""
BEHIND = Rejection(Reason.BEHIND, "an earlier record of its key is not finished", "Behind")


class UnitOfWork:
    """What a handler gets beside its records.

    Attributes:
        connection: of the open transaction; a handler reads and writes through it and never commits.
        now_ms: one time for the whole transaction, the database's.
    """

    def __init__(self, connection: AsyncConnection, subscription: Subscription, records: Sequence[Record]) -> None:
        self.connection = connection
        self.now_ms = 0  # until it is opened
        self._subscription = subscription
        self._records = list(records)
        self._live: list[Record] = []
        self._unneeded: list[Record] = []
        self._duplicates: list[Record] = []
        self._parked: list[tuple[Record, Rejection, bool]] = []
        self._parked_ids: set[int] = set()
        self._held: dict[tuple[str, bytes], int] = {}
        self._held_before: parking.HeldKeys = frozenset()
        self._outgoing: list[OutgoingMessage] = []
        self._after_commit: list[Callable[[], None]] = []
        self._missing: dict[PartitionKey, tuple[int, int]] = {}
        self._moved: dict[PartitionKey, Position] = {}
        self._judged: list[Failure | None] = []

    # --- for handlers -------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[Record]:
        """The records that are to be handled."""
        return self._live

    def cause(self, record: Record) -> Cause:
        """A record as the cause of what a handler emits."""
        attributes = record.attributes
        message_id = attributes["ce_id"]
        return Cause(
            message_id,
            attributes["ce_source"],
            attributes["ce_type"],
            record.time_ms,
            record.key,
            attributes.get("ce_correlationid") or message_id,
            attributes.get("traceparent"),
            self.now_ms,
        )

    def outgoing(self, message: Any, cause: Cause, index: int) -> OutgoingMessage:
        """An event as the record that will be published.

        Args:
            message: of a catalogued type, or one with an id of its own (`deciders.Identified`).
            cause: the message that is being handled.
            index: the how many-th event of that cause this is; together they make its id.
        """
        subscription = self._subscription
        if isinstance(message, Identified):
            return originating(
                subscription.catalog,
                message.event,
                cause.origin,
                message.message_id,
                topic_prefix=subscription.topic_prefix,
            )
        return outgoing(subscription.catalog, message, cause, index, topic_prefix=subscription.topic_prefix)

    def send(self, messages: Iterable[OutgoingMessage]) -> None:
        """Publish these once this transaction has committed."""
        self._outgoing.extend(messages)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run once the transaction has committed."""
        self._after_commit.append(callback)

    def is_held(self, record: Record) -> bool:
        """Whether an earlier record of its key is unfinished, so that this one must wait behind it."""
        return record.key is not None and self._held.get((record.topic, record.key), record.position) < record.position

    def hold_back(self, record: Record) -> None:
        """Park a live record behind an earlier one of its key."""
        self._park(record, BEHIND)

    def fail(self, record: Record, error: Exception) -> None:
        """Park a live record whose handler failed; the later records of its key wait behind it."""
        if classified_as(error, self._subscription.classifiers) is Kind.POISON:
            self._park(record, Rejection(Reason.INVALID, clip(str(error)) or "no text", type(error).__name__))
            return
        stack = "".join(traceback.format_exception(error)).replace("\x00", "\\x00")[-STACK_MAX_CHARACTERS:]
        self._park(record, Rejection(Reason.FAILED, clip(str(error)) or "no text", type(error).__name__, stack))

    def reject(self, record: Record, text: str) -> None:
        """Park a live record that is well-formed but senseless here, an event dated in the future for instance."""
        self._park(record, Rejection(Reason.INVALID, clip(text), "Rejected"))

    # --- for the middleware -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Decide which of the records a handler should see."""
        subscription = self._subscription
        self.now_ms = await database_time_ms(self.connection)
        self._held_before = await parking.load_held_keys(self.connection, subscription.group, self._records)
        self._held = dict.fromkeys(self._held_before, BEFORE_ALL)
        await self._leave_full_keys()
        positions = await subscription.positions_for(self.connection, self._records)
        self._records, self._missing = await subscription.check_gaps(self._records, positions)
        self._number()
        message_ids = [identity[1] for record in self._records if (identity := record.identity) is not None]
        seen = await inbox.find_in_inbox(self.connection, subscription.group, message_ids)
        before = await self._parked_before()
        for record in self._records:
            if before and parking.parked_identity(record) in before:
                self._duplicates.append(record)
            else:
                self._admit(record, seen)

    async def _leave_full_keys(self) -> None:
        """Take nothing of a partition from the first record on whose key has as many parked ones as it may have."""
        if not self._held_before:
            return
        subscription, most = self._subscription, self._subscription.retries.key_max_records
        parked = await parking.count_held(self.connection, subscription.group, self._held_before)
        stopped: set[PartitionKey] = set()
        taken = []
        for record in self._records:
            if record.partition_key in stopped:
                continue
            if record.key is not None and (queue := (record.topic, record.key)) in parked:
                if parked[queue] >= most:
                    stopped.add(record.partition_key)
                    subscription.pause_partition(record.partition_key, queue)
                    continue
                parked[queue] += 1
            taken.append(record)
        self._records = taken

    def _number(self) -> None:
        for position, record in enumerate(self._records):
            record.position = position

    async def _parked_before(self) -> set[parking.ParkedIdentity]:
        """Records that are read again although they are parked, and whose key is not held to show it."""
        holds = self._subscription.holds_keys
        loose = [record for record in self._records if record.key is None or not holds(record.topic)]
        return await parking.already_parked(self.connection, self._subscription.group, loose)

    def _admit(self, record: Record, seen: inbox.Seen) -> None:
        subscription = self._subscription
        if record.rejection is not None and record.rejection.reason is not Reason.FAILED:
            identity = record.identity
            if identity is not None and seen.get(identity, (None, None))[1] == record.body_hash:
                self._duplicates.append(record)
            elif record.rejection.reason in subscription.retries.holding and self.is_held(record):
                self._park(record, BEHIND)
            else:
                self._park(record, record.rejection)
            return
        identity = record.identity
        assert identity is not None, "decoding rejects a record without an identity"
        earlier = seen.get(identity)
        fingerprint = (record.attributes["ce_type"], record.body_hash)
        if earlier is not None:
            if earlier != fingerprint and not _is_other_version(earlier[0], fingerprint[0]):
                text = f"{earlier[0]} with the id {identity[1]} was handled before, and this is not the same message"
                self._park(record, Rejection(Reason.ID_CONFLICT, text, "IdConflict"))
            else:
                self._duplicates.append(record)
        elif self.is_held(record):
            self._park(record, BEHIND)
        elif record.rejection is not None:
            self._park(record, record.rejection)
        else:
            seen[identity] = fingerprint
            (self._unneeded if record.message is None else self._live).append(record)

    async def save(self) -> None:
        """Write everything down.

        Raises:
            Fenced: another consumer owns one of the partitions now.
        """
        subscription, connection = self._subscription, self.connection
        handled = [record for record in self._live if id(record) not in self._parked_ids] + self._unneeded
        await self._consult_kill_switch()
        await append(connection, self._outgoing, self.now_ms)
        await inbox.add_to_inbox(connection, subscription.group, handled, self.now_ms)
        await self._save_parked()
        await self._save_progress(handled)
        if self._outgoing:
            self._after_commit.append(subscription.wake_relay)

    async def _consult_kill_switch(self) -> None:
        """Nothing is saved where many different keys fail for one cause.

        Raises:
            KillSwitchTripped: they do.
        """
        switch = self._subscription.kill_switch
        self._judged = self._outcomes_in_order()
        if (why := switch.judge(self._judged)) is not None:
            raise KillSwitchTripped(why)
        if switch.tripped is not None and None in self._judged:
            subscription = self._subscription
            await end_pause(self.connection, subscription.group, PauseCause.KILL_SWITCH, subscription.holder)

    def _outcomes_in_order(self) -> list[Failure | None]:
        """What the kill switch looks at: successes of the handler, and failures that could have one cause."""
        counted = {Reason.FAILED, Reason.UNKNOWN_TYPE}
        failed = {id(record): rejection for record, rejection, _ in self._parked if rejection.reason in counted}
        if not failed:
            return [None] * (len(self._live) - len(self._parked_ids & {id(record) for record in self._live}))
        live = {id(record) for record in self._live} - self._parked_ids
        outcomes: list[Failure | None] = []
        for record in self._records:
            if id(record) in live:
                outcomes.append(None)
            elif (rejection := failed.get(id(record))) is not None:
                key = (record.topic, record.key) if record.key is not None else (*record.partition_key, record.offset)
                outcomes.append((rejection.error_type, key))
        return outcomes

    def finish(self) -> None:
        """Mark the outcomes. Only after the commit."""
        self._keep_judgement()
        parked_ids = {id(record) for record, _, _ in self._parked}
        duplicates = {id(record) for record in self._duplicates}
        for record in self._records:
            if id(record) in duplicates:
                record.outcome = Outcome.DUPLICATE
            elif id(record) in parked_ids:
                record.outcome = Outcome.PARKED
            else:
                record.outcome = Outcome.HANDLED
        self._subscription.remember(self._moved)
        if self._parked:
            self._subscription.release_wanted.set()
        for callback in self._after_commit:
            callback()

    def _keep_judgement(self) -> None:
        switch = self._subscription.kill_switch
        was_tripped = switch.tripped is not None
        switch.keep(self._judged)
        if was_tripped and switch.tripped is None:
            self._subscription.pausing.kill_switch_closed()

    @property
    def moved(self) -> dict[PartitionKey, Position]:
        """Where each partition stands after this transaction."""
        return self._moved

    # --- inside -------------------------------------------------------------------------------------------------

    def _park(self, record: Record, rejection: Rejection) -> None:
        self._parked_ids.add(id(record))
        holds = self._holds(record, rejection)
        self._parked.append((record, rejection, holds))
        if holds:
            assert record.key is not None
            queue = (record.topic, record.key)
            self._held[queue] = min(record.position, self._held.get(queue, record.position))

    def _holds(self, record: Record, rejection: Rejection) -> bool:
        subscription = self._subscription
        return (
            record.key is not None
            and rejection.reason in subscription.retries.holding
            and subscription.holds_keys(record.topic)
        )

    async def _save_parked(self) -> None:
        if not self._parked:
            return
        self._parked.sort(key=lambda entry: (entry[0].topic, entry[0].partition, entry[0].offset))
        there = await parking.already_parked(
            self.connection, self._subscription.group, [record for record, _, _ in self._parked]
        )
        if there:
            fresh = []
            for entry in self._parked:
                if parking.parked_identity(entry[0]) in there:
                    self._duplicates.append(entry[0])
                else:
                    fresh.append(entry)
            self._parked = fresh
        await parking.park(
            self.connection,
            self._subscription.group,
            self._parked,
            self.now_ms,
            self._subscription.retries,
            self._held_before,
        )

    async def _save_progress(self, handled: Sequence[Record]) -> None:
        advances: dict[PartitionKey, Advance] = {}
        for record in self._records:
            advances.setdefault(record.partition_key, Advance(record.offset, record.offset)).take(record.offset)
        for record in handled:
            advances[record.partition_key].handled += 1
        for record in self._duplicates:
            advances[record.partition_key].duplicate += 1
        for record, _, _ in self._parked:
            advances[record.partition_key].parked += 1
        for key, (lost, skipped) in self._missing.items():
            advances[key].lost, advances[key].skipped = lost, skipped
        subscription = self._subscription
        for key in sorted(advances):
            self._moved[key] = await save_advance(
                self.connection, subscription.group, key, subscription.known(key), advances[key], self.now_ms
            )


def _is_other_version(type_name: str, other: str) -> bool:
    """Whether two types are versions of one (`.v` and a number at the end), so that one id names one fact in both."""
    (name, _, version), (other_name, _, other_version) = type_name.rpartition(".v"), other.rpartition(".v")
    return name == other_name and version != other_version and version.isdigit() and other_version.isdigit()
