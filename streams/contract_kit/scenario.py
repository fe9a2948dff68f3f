"""The vocabulary of a contract test: given what came before, when this is sent, then that is emitted, and nothing else.

Invariant: a test says nothing about how records travel, so that the same test runs in memory and on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from contracts.message import Message
from contracts.rejections import CommandRejected
from streams.contract_kit.expectation import Expectation
from streams.contract_kit.history import History
from streams.contract_kit.records import Counts, Sent
from streams.contract_kit.report import ContractBroken, Difference, compared, describe_parked, listed
from streams.contract_kit.sending import Envelope, raw_record, record_of, runs_by_topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Table

    from streams.contract_kit.coverage import Coverage
    from streams.contract_kit.records import Emitted, ParkedRecord, Received
    from streams.contract_kit.transport import Transport

__all__ = ["Scenario"]

M = TypeVar("M", bound=Message)


class Scenario:
    """One service under test, or several together.

    Args:
        transport: how to reach it.
        coverage: is told what the service does with each record.
    """

    def __init__(self, transport: Transport, coverage: Coverage | None = None) -> None:
        self._transport = transport
        self._course = None if coverage is None else coverage.begin()
        self._history = History()
        self._counts: Mapping[str, Counts] = {}
        self._counts_before: Mapping[str, Counts] = {}

    # --- given ------------------------------------------------------------------------------------------------------

    async def given(self, *messages: Message, at: datetime | None = None) -> list[Sent]:
        """Send what happened before. What the service answers is set aside; see `earlier`.

        Messages of different topics are sent one topic after the other, in the order given, because Kafka keeps no
        order between them.

        Raises:
            ContractBroken: one of them was rejected, parked or taken for a duplicate: the test does not test what it
                thinks it does.
        """
        sent: list[Sent] = []
        for records in runs_by_topic([record_of(message, Envelope(at=at)) for message in messages]):
            await self._step(records)
            self._expect_accepted()
            sent += records
        return sent

    async def given_rows(self, table: Table, *rows: Mapping[str, Any]) -> None:
        """Put rows that it would take too many messages to bring about."""
        await self._transport.write_rows(table, rows)

    def earlier(self, contract: type[M], /, **fields: Any) -> Received[M]:
        """The last message of a type that the service emitted before the last step, or in it."""
        for message in reversed((*self._history.earlier, *self._history.fresh)):
            if message.has(contract, fields):
                return cast("Received[M]", message)
        raise ContractBroken(f"no {contract.type_name} with {fields} was emitted earlier")

    # --- when -------------------------------------------------------------------------------------------------------

    async def when(
        self,
        message: Message,
        /,
        *,
        id: str | None = None,  # noqa: A002  the attribute's name in CloudEvents
        at: datetime | None = None,
        source: str | None = None,
        key: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str | bytes | None] | None = None,
    ) -> Sent:
        """Send a command or an event and wait until everything that follows from it is finished."""
        envelope = Envelope(id=id, at=at, source=source, key=key, correlation_id=correlation_id, headers=headers)
        record = record_of(message, envelope)
        await self._step([record])
        return record

    async def when_together(self, *messages: Message | Sent, at: datetime | None = None) -> list[Sent]:
        """Send several at once, so that they may be handled in one batch. Their topics may be read in any order.

        Among them may be records that `sending.raw_record` made.
        """
        records = [one if isinstance(one, Sent) else record_of(one, Envelope(at=at)) for one in messages]
        await self._step(records)
        return records

    async def when_again(self, *records: Emitted) -> None:
        """Write records once more, byte for byte: a sender, or the service's own relay, that repeats itself."""
        await self._step(records)

    async def when_raw(
        self,
        topic: str,
        value: bytes | None,
        headers: Mapping[str, str | bytes | None] | None = None,
        key: str | bytes | None = None,
    ) -> Sent:
        """Send anything at all."""
        record = raw_record(topic, value, headers, key)
        await self._step([record])
        return record

    # --- then -------------------------------------------------------------------------------------------------------

    @overload
    def then(
        self, expected: type[M], /, *, key: str | None = None, because_of: Emitted | None = None, **fields: Any
    ) -> Received[M]: ...

    @overload
    def then(self, expected: M, /, *, key: str | None = None, because_of: Emitted | None = None) -> Received[M]: ...

    def then(
        self,
        expected: M | type[M],
        /,
        *,
        key: str | None = None,
        because_of: Emitted | None = None,
        **fields: Any,
    ) -> Received[M]:
        """A message was emitted since the last step. Messages of one key are expected in the order they came in.

        Args:
            expected: the whole message, or its type together with some of its fields.
            key: its record key in words; that it is the catalogue's is checked anyway.
            because_of: the message whose handling emitted it; where it is left out, something that goes back to the
                last step.
            **fields: part of its data.

        Raises:
            ContractBroken: it was not.
        """
        causes = self._history.commands if because_of is None else [because_of]
        return Expectation.of(expected, fields, key, causes, direct=because_of is not None).claim(self._history)

    def then_each(self, expected: type[M], /, *, times: int, **fields: Any) -> list[Received[M]]:
        """So many messages of a type with these fields were emitted since the last step, no more and no less.

        Raises:
            ContractBroken: another number was.
        """
        found = [one for one in self._history.unclaimed if one.has(expected, fields)]
        if len(found) != times:
            raise ContractBroken(
                f"{expected.type_name} with {fields} was emitted {len(found)} times, expected {times}\n"
                f"{self._history.account()}"
            )
        self._history.claimed += found
        return cast("list[Received[M]]", found)

    def then_rejected(
        self, reason_code: str, command: Emitted | None = None, /, *, key: str | None = None
    ) -> Received[CommandRejected]:
        """A command was refused for this reason, in one event with the command's key.

        Args:
            reason_code: as in the contract.
            command: which one; by default the only one of the last step.
            key: the record key in words.
        """
        command = command or self._only_command()
        contract = self._rejection_of(command)
        fields = {"command_id": command.id, "command_type": command.type, "reason_code": reason_code}
        rejection = Expectation.of(contract, fields, key, [command], direct=True).claim(self._history)
        again = [one for one in self._history.unclaimed if getattr(one.data, "command_id", None) == command.id]
        if again:
            raise ContractBroken(f"{command.type} was rejected {1 + len(again)} times\n{self._history.account()}")
        return rejection

    def then_parked(
        self, record: Emitted | None = None, /, *, reason: str, by: str | None = None, state: str | None = None
    ) -> list[ParkedRecord]:
        """A record was set aside whole.

        Args:
            record: which one; by default the only one of the last step.
            reason: why.
            by: the group that has; by default every group that reads its topic.
            state: `dead` or `retrying`; by default either.
        """
        record = record or self._only_command()
        groups = [by] if by is not None else list(self._transport.readers(record.topic))
        if not groups:
            raise ContractBroken(f"nobody reads {record.topic}")
        return [self._claim_parked(record, group, reason, state) for group in groups]

    def then_duplicate(self, record: Emitted | None = None, /) -> None:
        """The only record of the last step was known already, and nothing came of it."""
        record = record or self._only_command()
        for group in self._transport.readers(record.topic):
            before, after = self._counts_before.get(group, Counts()), self._counts.get(group, Counts())
            rows = [
                Difference(name, str(expected), str(actual), expected != actual)
                for name, expected, actual in (
                    ("duplicate", 1, after.duplicate - before.duplicate),
                    ("handled", 0, after.handled - before.handled),
                    ("parked", 0, after.parked - before.parked),
                )
            ]
            if any(row.matters for row in rows):
                raise ContractBroken(
                    f"{group} did not take {record.type} for a duplicate\n{compared(rows)}\n{self._history.account()}"
                )
        self.then_nothing_else()

    def then_nothing_else(self) -> None:
        """Since the last step nothing was emitted and nothing was parked that the test has not asked for."""
        if self._history.unclaimed or self._history.parked:
            raise ContractBroken(f"more happened than was expected\n{self._history.account()}")

    def everything(self, contract: type[M], /, **fields: Any) -> list[Received[M]]:
        """Every message of a type that the service has emitted in this test, in order; asks for none of them."""
        every = (*self._history.earlier, *self._history.fresh)
        return [cast("Received[M]", message) for message in every if message.has(contract, fields)]

    # --- for the fixture --------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Check that every record that was taken has exactly one outcome."""
        for group, counts in (await self._transport.counts()).items():
            if not counts.conserved or counts.lost or counts.skipped:
                raise ContractBroken(f"{group} has lost count: {counts}")

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _step(self, records: Sequence[Emitted]) -> None:
        self._history.begin(records)
        self._counts_before = self._counts
        await self._transport.send(records)
        await self._transport.settle()
        self._counts = await self._transport.counts()
        self._history.observe(await self._transport.emitted(), await self._transport.parked())
        if self._course is not None:
            self._course.add(records, self._history.fresh, self._history.parked, self._transport.readers)

    def _expect_accepted(self) -> None:
        history = self._history
        rejected = [one for one in history.fresh if isinstance(one.data, CommandRejected)]
        duplicates = {
            group
            for group, counts in self._counts.items()
            if counts.duplicate > self._counts_before.get(group, Counts()).duplicate
        }
        if rejected or history.parked or duplicates:
            taken = f", a duplicate by {', '.join(sorted(duplicates))}" if duplicates else ""
            raise ContractBroken(f"what is given should be accepted{taken}\n{history.account()}")

    def _only_command(self) -> Emitted:
        if len(self._history.commands) != 1:
            raise TypeError(f"say which of the {len(self._history.commands)} records of the last step is meant")
        return self._history.commands[0]

    def _rejection_of(self, command: Emitted) -> type[CommandRejected]:
        for contract in CommandRejected.__subclasses__():
            if contract.type_name.partition(".")[0] == command.type.partition(".")[0]:
                return contract
        raise TypeError(f"{command.type} belongs to no context that rejects commands")

    def _claim_parked(self, record: Emitted, group: str, reason: str, state: str | None) -> ParkedRecord:
        found = [one for one in self._history.parked if one.group == group and one.is_whole(record)]
        for one in found:
            if one.reason == reason and state in {None, one.state}:
                self._history.parked.remove(one)
                return one
        wanted = f"{group} has not parked {record.type or 'the record'} of {record.topic} as {reason}"
        instead = listed("the same record", [describe_parked(one) for one in found])
        raise ContractBroken(f"{wanted}{f' ({state})' if state else ''}\n{instead}\n{self._history.account()}")
