"""Deciders: pure functions from state and a message to changes and events, run over a batch at a batch's cost.

A decider names the rows that its message touches. All rows of a batch are loaded and locked with one statement per
table, the deciders run in record order over that state in memory, and what they changed is saved with one statement
per table. Each runs on an overlay that is kept or dropped: a record whose decider raises contributes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import Record
    from streams.intake.unit_of_work import UnitOfWork
    from streams.outbox.envelope import Cause

__all__ = ["Change", "Deciders", "Identified", "Put", "Rejected", "Rows", "State"]

Key = Any
"""A frozen dataclass: its type names a kind of row, its value one of them."""
Decide = Callable[["State", Any, "Cause"], Iterator[Any]]
Needs = Callable[[Any, "Cause"], Iterable[Key]]
ThenNeeds = Callable[["State", Any, "Cause"], Iterable[Key]]
K = TypeVar("K", bound=Hashable)


class Rejected(Exception):
    """Raised by a decider for an event that is well-formed but senseless here: it is parked as `invalid`."""


class Change:
    """What a decider yields to alter state: visible to the deciders after it, saved with the batch.

    Whatever else a decider yields is an event.
    """

    __slots__ = ()

    def apply(self, state: State) -> None:
        """Put the altered rows."""
        raise NotImplementedError


@dataclass(slots=True)
class Put(Change):
    """The plain change: this row now stands under this key."""

    key: Any
    row: Any

    def apply(self, state: State) -> None:
        """Put the row."""
        state.put(self.key, self.row)


@dataclass(slots=True)
class Identified:
    """An event with an id of its own, because it tells of something that more than one message could have begun.

    Yielded in place of the event. Any other event's id derives from the message that is handled.
    """

    event: Any
    message_id: str


class Rows(Protocol):
    """The storage of one kind of row: a slice's table seen through its keys."""

    async def load(self, connection: AsyncConnection, keys: set[Any], /) -> Mapping[Any, Any]:
        """Read and lock the rows in key order. Keys without a row are left out."""
        ...

    async def save(self, work: UnitOfWork, changed: Mapping[Any, Any], /) -> None:
        """Write rows that were put, new ones and old ones."""
        ...


class State:
    """The rows of a batch: what was loaded, what earlier records of the batch changed, and an overlay on top."""

    def __init__(self, loaded: dict[type, dict[Key, Any]]) -> None:
        self._rows = loaded
        self._overlay: dict[Key, Any] = {}
        self._changed: dict[type, dict[Key, Any]] = {kind: {} for kind in loaded}

    def __getitem__(self, key: Key) -> Any:
        """The row under a key, or None where there is none.

        Raises:
            KeyError: the decider did not name rows of this kind in its needs.
        """
        if key in self._overlay:
            return self._overlay[key]
        return self._rows[type(key)].get(key)

    def knows(self, key: Key) -> bool:
        """Whether this row is there or was put; the rows of a batch are loaded in two waves at most."""
        return key in self._overlay or key in self._rows[type(key)]

    def add(self, kind: type, rows: Mapping[Key, Any]) -> None:
        """Rows that were loaded later."""
        self._rows[kind].update(rows)

    def put(self, key: Key, row: Any) -> None:
        """Set a row in the overlay."""
        self._overlay[key] = row

    def keep(self) -> None:
        """Make the overlay part of the state."""
        for key, row in self._overlay.items():
            kind = type(key)
            self._rows[kind][key] = row
            self._changed[kind][key] = row
        self._overlay = {}

    def drop(self) -> None:
        """Forget the overlay."""
        self._overlay = {}

    def changed(self, kind: type) -> Mapping[Key, Any]:
        """Every row of a kind that was put and kept."""
        return self._changed[kind]


@dataclass(frozen=True, slots=True)
class _Decider:
    decide: Decide
    needs: Needs
    then_needs: ThenNeeds | None


class Deciders:
    """A slice's deciders and the rows they work on.

    Args:
        rows: kind of key -> its storage. They are loaded, and so locked, in this order.
    """

    def __init__(self, rows: Mapping[type, Rows]) -> None:
        self._rows = dict(rows)
        self._by_type: dict[type, _Decider] = {}

    @property
    def message_types(self) -> tuple[type, ...]:
        """What these deciders decide."""
        return tuple(self._by_type)

    def add(self, message_type: type, decide: Decide, *, needs: Needs, then_needs: ThenNeeds | None = None) -> None:
        """Register the decider of a type of message.

        Args:
            message_type: whose messages it decides.
            decide: a pure generator function of (state, message, cause) that yields changes and events.
            needs: the keys of the rows that a message touches.
            then_needs: the keys that are only known from those rows: a message that names a payout touches the
                account of its worker. Loaded after all rows of `needs`, so mind the order of locks.
        """
        if message_type in self._by_type:
            raise ValueError(f"{message_type.__name__} has a decider already")
        self._by_type[message_type] = _Decider(decide, needs, then_needs)

    async def decide(self, batch: Iterable[Record], work: UnitOfWork) -> None:
        """Run the batch through its deciders inside a unit of work."""
        plan: list[tuple[Record, _Decider, Cause]] = []
        wanted: dict[type, set[Key]] = {}
        for record in batch:
            if record.message is None:  # of a type that this group has no use for
                continue
            decider = self._by_type[type(record.message)]
            cause = work.cause(record)
            for key in decider.needs(record.message, cause):
                wanted.setdefault(type(key), set()).add(key)
            plan.append((record, decider, cause))
        state = State(
            {
                kind: dict(await rows.load(work.connection, wanted[kind])) if kind in wanted else {}
                for kind, rows in self._rows.items()
            }
        )
        await self._load_more(state, plan, work)
        for record, decider, cause in plan:
            self._decide_one(state, record, decider, cause, work)
        for kind, rows in self._rows.items():
            if changed := state.changed(kind):
                await rows.save(work, changed)

    async def _load_more(self, state: State, plan: Iterable[tuple[Record, _Decider, Cause]], work: UnitOfWork) -> None:
        """The second wave: rows that the first one led to."""
        wanted: dict[type, set[Key]] = {}
        for record, decider, cause in plan:
            if decider.then_needs is not None:
                for key in decider.then_needs(state, record.message, cause):
                    if not state.knows(key):
                        wanted.setdefault(type(key), set()).add(key)
        for kind, rows in self._rows.items():
            if kind in wanted:
                state.add(kind, await rows.load(work.connection, wanted[kind]))

    @staticmethod
    def _decide_one(state: State, record: Record, decider: _Decider, cause: Cause, work: UnitOfWork) -> None:
        if work.is_held(record):
            work.hold_back(record)
            return
        events: list[Any] = []
        try:
            for outcome in decider.decide(state, record.message, cause):
                if isinstance(outcome, Change):
                    outcome.apply(state)
                else:
                    events.append(outcome)
            outgoing = [work.outgoing(event, cause, index) for index, event in enumerate(events)]
        except Rejected as error:
            state.drop()
            work.reject(record, str(error))
        except Exception as error:  # a defect in a decider: the record is set aside, the rest goes on
            state.drop()
            work.fail(record, error)
        else:
            state.keep()
            work.send(outgoing)
