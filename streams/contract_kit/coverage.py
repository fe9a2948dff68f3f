"""What a session's contract tests have seen the service do: each message, each outcome, each event that came of it.

Invariant: nothing here is told what should happen; it is read off the records that went in and came out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.rejections import CommandRejected
from streams.contract_kit.records import Received, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from contracts.message import Message
    from streams.contract_kit.records import Emitted, ParkedRecord

__all__ = ["ACCEPTED", "DUPLICATE", "REFUSED", "Course", "Coverage", "Taken", "parked_as", "rejected_as"]

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
REFUSED = "refused"
"""Readable, and set aside because it is senseless here: dated in the future, for instance."""
REFUSAL = "Rejected"
"""The error that such a record is parked with."""


def rejected_as(reason_code: str) -> str:
    """The outcome of a command that was answered with a rejection."""
    return f"rejected: {reason_code}"


def parked_as(reason: str) -> str:
    """The outcome of a record that was set aside."""
    return f"parked: {reason}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one group has done with one record.

    Attributes:
        group: who read it.
        type: what the record says it is.
        outcome: in one or two words.
        emitted: the types of what came of it, directly.
        message: what it says, where the test or the service made it from a message.
    """

    group: str
    type: str
    outcome: str
    emitted: tuple[str, ...]
    message: Message | None


class Course:
    """One test's records in the order in which they were taken. Made by `Coverage.begin`."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self._seen: set[tuple[str, str, str]] = set()

    def add(
        self,
        sent: Sequence[Emitted],
        emitted: Sequence[Received[Message]],
        parked: Sequence[ParkedRecord],
        readers: Callable[[str], Sequence[str]],
    ) -> None:
        """A step of the test.

        Args:
            sent: by the test.
            emitted: by the service because of it; other groups may read it in their turn.
            parked: set aside in this step.
            readers: who reads a topic.
        """
        by_cause: dict[str, list[Received[Message]]] = {}
        for event in emitted:
            by_cause.setdefault(event.cause_id, []).append(event)
        for record in (*sent, *emitted):
            groups = readers(record.topic)
            for group in groups:
                effects = [event for event in by_cause.get(record.id, ()) if _emitter_of(event, groups) in {group, ""}]
                kept = [one for one in parked if one.group == group and one.is_whole(record)]
                outcome = self._outcome(record, group, effects, kept)
                types = () if outcome == DUPLICATE else tuple(sorted({event.type for event in effects}))
                self.taken.append(Taken(group, record.type, outcome, types, _message_of(record)))

    def _outcome(
        self, record: Emitted, group: str, effects: Iterable[Received[Message]], kept: Sequence[ParkedRecord]
    ) -> str:
        identity = (group, record.attributes.get("ce_source", ""), record.id)
        if kept:
            return REFUSED if kept[0].error_type == REFUSAL else parked_as(kept[0].reason)
        if identity in self._seen:
            return DUPLICATE
        self._seen.add(identity)
        for event in effects:
            if isinstance(event.data, CommandRejected) and event.data.command_id == record.id:
                return rejected_as(event.data.reason_code)
        return ACCEPTED


class Coverage:
    """The courses of all tests of a session."""

    def __init__(self) -> None:
        self.courses: list[Course] = []

    def begin(self) -> Course:
        """Another test."""
        course = Course()
        self.courses.append(course)
        return course

    @property
    def taken(self) -> Iterator[Taken]:
        """What was done with every record of every test."""
        return (taken for course in self.courses for taken in course.taken)

    def as_markdown(self) -> str:
        """The table: group, message, outcome, what was emitted, and how often that was seen."""
        rows = Counter(
            (one.group, one.type or "(no type)", one.outcome, ", ".join(one.emitted) or "nothing") for one in self.taken
        )
        lines = ["| group | message | outcome | emitted | seen |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} | {times} |" for row, times in sorted(rows.items())]
        return "\n".join(lines) + "\n"


def _emitter_of(event: Emitted, groups: Collection[str]) -> str:
    """Which of a record's readers has emitted an event; empty where its source, the ledger for instance, is none."""
    source = event.attributes["ce_source"].rpartition("/")[2]
    return source if source in groups else ""


def _message_of(record: Emitted) -> Message | None:
    if isinstance(record, Received):
        data: Message = record.data
        return data
    return record.message if isinstance(record, Sent) else None
