"""What has happened in a test so far: every message by its id, and what nobody has asked for yet.

Invariant: every emitted record is checked against the catalogue the moment it is seen, whether or not a test asks for
it, and is handed out at most once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.contract_kit.envelope import received
from streams.contract_kit.report import ContractBroken, describe, describe_parked, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contracts.message import Message
    from streams.contract_kit.records import Emitted, ParkedRecord, Received

__all__ = ["History"]


class History:
    """The course of one test.

    Attributes:
        commands: what the last `when` sent.
        fresh: what the service has emitted since then, in order.
        claimed: those of `fresh` that the test has asked for.
        earlier: what it emitted before.
        parked: what has been parked since then and was not asked for.
    """

    def __init__(self) -> None:
        self.commands: list[Emitted] = []
        self.fresh: list[Received[Message]] = []
        self.claimed: list[Received[Message]] = []
        self.earlier: list[Received[Message]] = []
        self.parked: list[ParkedRecord] = []
        self._known: dict[str, Emitted] = {}
        self._names: dict[str, str] = {}
        self._parked_before: set[tuple[str, str, int, int]] = set()

    def begin(self, commands: Iterable[Emitted]) -> None:
        """A new step of the test: what came before is past, claimed or not."""
        self.earlier += self.fresh
        self.fresh, self.claimed, self.parked = [], [], []
        self.commands = list(commands)
        for command in self.commands:
            self._know(command, "the ")

    def observe(self, emitted: Iterable[Emitted], parked: Iterable[ParkedRecord]) -> None:
        """Take in what a step has led to.

        Raises:
            ContractBroken: a record breaks a rule that holds for every message.
        """
        new = list(emitted)
        for number, record in enumerate(new):
            position = len(self.earlier) + len(self.fresh)
            try:
                message = received(record, self._known, position)
            except ContractBroken as broken:
                around = [describe(other, self._names) for other in (*self.fresh, *new[number:])]
                raise ContractBroken(f"{broken}\n{listed('emitted since the last step', around)}") from None
            self.fresh.append(message)
            self._know(message, "")
        for one in parked:
            if one.place not in self._parked_before:
                self._parked_before.add(one.place)
                self.parked.append(one)

    @property
    def unclaimed(self) -> list[Received[Message]]:
        """What was emitted since the last step and nobody has asked for."""
        claimed = {message.position for message in self.claimed}
        return [message for message in self.fresh if message.position not in claimed]

    def is_caused_by(self, record: Emitted, ancestors: Iterable[Emitted]) -> bool:
        """Whether a record goes back to one of these, directly or through others."""
        ids = {ancestor.id for ancestor in ancestors}
        cause_id = record.cause_id
        while cause_id:
            if cause_id in ids:
                return True
            cause = self._known.get(cause_id)
            cause_id = cause.cause_id if cause is not None else ""
        return False

    def causes_have_order(self, one: Emitted, other: Emitted) -> bool:
        """Whether Kafka keeps the order in which the causes of two messages are read: one cause, or two of one key.

        What two keys cause has an order in memory, but on Kafka it is whichever partition is read first.
        """
        first, second = self._known.get(one.cause_id), self._known.get(other.cause_id)
        if first is None or second is None:
            return False
        return first.id == second.id or (
            first.key is not None and (first.topic, first.key) == (second.topic, second.key)
        )

    def name(self, message_id: str) -> str:
        """What to call a message in a failure."""
        return self._names.get(message_id, f"unknown {message_id!r}")

    def account(self) -> str:
        """Everything since the last step, for the end of a failure message."""
        claimed = [describe(message, self._names) for message in self.claimed]
        others = [describe(message, self._names) for message in self.unclaimed]
        parked = [describe_parked(one) for one in self.parked]
        return "\n".join(
            (
                listed("as expected so far", claimed),
                listed("emitted besides", others),
                listed("parked besides", parked),
            )
        )

    def _know(self, record: Emitted, article: str) -> None:
        if record.id:
            self._known[record.id] = record
            self._names[record.id] = f"{article}{record.type} {record.id[-8:]}"
