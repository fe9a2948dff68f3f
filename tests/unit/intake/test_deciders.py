"""Deciders run on an overlay: a record contributes everything or nothing, and sees what came before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.intake.deciders import Deciders, Put, Rejected, State
from streams.intake.unit_of_work import UnitOfWork
from streams.outbox.envelope import Cause
from streams.storage.database import Database
from tests.kit import Note, note, rows, subscription, take


@dataclass(frozen=True)
class CounterKey:
    name: str


class Counters:
    """Rows in memory that remember how often they were asked."""

    def __init__(self) -> None:
        self.stored: dict[Any, int] = {}
        self.loads = 0
        self.saves = 0

    async def load(self, _connection: AsyncConnection, keys: set[Any]) -> Mapping[Any, int]:
        self.loads += 1
        return {key: self.stored[key] for key in keys if key in self.stored}

    async def save(self, _work: UnitOfWork, changed: Mapping[Any, int]) -> None:
        self.saves += 1
        self.stored.update(changed)


def count(state: State, message: Note, _cause: Cause) -> Iterator[Any]:
    key = CounterKey("all")
    total = (state[key] or 0) + 1
    yield Put(key, total)
    yield Note(str(total))
    if message.text == "bad":
        raise ValueError("after a change and an event")
    if message.text == "senseless":
        raise Rejected("not now")


def deciders(counters: Counters) -> Deciders:
    made = Deciders({CounterKey: counters})
    made.add(Note, count, needs=lambda _message, _cause: [CounterKey("all")])
    return made


async def run(database: Database, counters: Counters, *texts: str) -> None:
    decisions = deciders(counters)

    async def handle(work: UnitOfWork) -> None:
        await decisions.decide(work.live, work)

    records = [note(number, body, key=str(number).encode()) for number, body in enumerate(texts)]
    await take(subscription(database), records, handle)


async def test_a_batch_costs_one_load_and_one_save(database: Database) -> None:
    """However many records touch a kind of row, it is read once and written once."""
    counters = Counters()
    await run(database, counters, *"abcdefgh")
    assert (counters.loads, counters.saves) == (1, 1)
    assert counters.stored == {CounterKey("all"): 8}


async def test_each_record_sees_what_came_before_it(database: Database) -> None:
    """Changes are visible at once to the later records of the batch, and events go out in that order."""
    await run(database, Counters(), "a", "b", "c")
    values = [value for (value,) in await rows(database, "SELECT value FROM outbox ORDER BY id")]
    assert values == [b'{"text": "1"}', b'{"text": "2"}', b'{"text": "3"}']


@pytest.mark.parametrize(("text", "reason"), [("bad", "failed"), ("senseless", "invalid")])
async def test_a_record_that_fails_contributes_nothing(database: Database, text: str, reason: str) -> None:
    """Neither the change nor the event that its decider had yielded before it failed is kept."""
    counters = Counters()
    await run(database, counters, "a", text, "c")
    assert counters.stored == {CounterKey("all"): 2}
    assert await rows(database, "SELECT count(*) FROM outbox") == [(2,)]
    assert await rows(database, "SELECT reason FROM parked") == [(reason,)]


def test_a_row_that_was_not_asked_for_is_a_mistake_not_a_missing_row() -> None:
    """Reading a kind of row that is in no needs raises instead of pretending that there is none."""
    with pytest.raises(KeyError):
        State({})[CounterKey("x")]


def test_a_message_has_one_decider() -> None:
    """Registering a second one for a type is refused at start."""
    made = deciders(Counters())
    with pytest.raises(ValueError, match="Note has a decider already"):
        made.add(Note, count, needs=lambda _message, _cause: [])
