"""After a death records are handled singly, and only the one that is being handled when the process dies is blamed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from faststream import ContextRepo

from streams.intake.record import Outcome, Reason
from streams.middleware.message import IntakeMessage, parse_message
from streams.middleware.step import Subscriptions
from streams.middleware.suspects import Suspects
from tests.kit import TOPIC, rows, subscription
from tests.unit.middleware.test_offsets import Raw, Subscriber

if TYPE_CHECKING:
    from streams.intake.subscription import Subscription
    from streams.storage.database import Database


class Dies(BaseException):
    """Stands for the end of the process: nothing after it is run."""


class Steps:
    """What the steps further in were given."""

    def __init__(self, killer: int | None = None) -> None:
        self.killer = killer
        self.parts: list[list[int]] = []
        self.crashed: list[int] = []

    async def __call__(self, part: IntakeMessage) -> None:
        self.parts.append([record.offset for record in part.records])
        for record in part.records:
            if record.rejection is not None and record.rejection.reason is Reason.CRASHED:
                self.crashed.append(record.offset)
                record.outcome = Outcome.PARKED
            elif record.offset == self.killer:
                raise Dies
            else:
                record.outcome = Outcome.HANDLED


async def deliver(subscribed: Subscription, steps: Steps, *offsets: int) -> list[Outcome | None]:
    known = Subscriptions()
    known.add(subscribed)
    context = ContextRepo()
    raws = tuple(Raw(offset) for offset in offsets)
    with context.scope("handler_", Subscriber()):
        step = Suspects(raws, context=context, subscriptions=known, one_at_a_time=asyncio.Lock())
        message = await parse_message(raws)
        await step.consume_scope(steps, message)
    return [record.outcome for record in message.records]


async def die(database: Database, *offsets: int, killer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own that takes records and dies over one of them, before it can clear anybody."""
    from streams.intake import suspects  # noqa: PLC0415

    with monkeypatch.context() as patch:
        original = suspects.end_attempts

        async def end_attempts(connection: object, group: str, records: list[object]) -> None:
            if records[0].offset != killer:  # type: ignore[attr-defined]
                await original(connection, group, records)  # type: ignore[arg-type]

        patch.setattr(suspects, "end_attempts", end_attempts)
        with pytest.raises(Dies):
            await deliver(subscription(database), Steps(killer), *offsets)


async def test_in_peace_a_delivery_goes_through_whole(database: Database) -> None:
    """One row per partition, and nothing written per record."""
    steps = Steps()
    subscribed = subscription(database)
    await deliver(subscribed, steps, 0, 1, 2)
    await deliver(subscribed, steps, 3)
    assert steps.parts == [[0, 1, 2], [3]]
    assert await rows(database, "SELECT topic, partition, holder FROM ownership") == [(TOPIC, 0, subscribed.holder)]
    assert await rows(database, "SELECT count(*) FROM suspect") == [(0,)]


async def test_after_a_stop_in_good_order_nobody_is_suspected(database: Database) -> None:
    before = subscription(database)
    await deliver(before, Steps(), 0)
    await before.close()
    steps = Steps()
    await deliver(subscription(database), steps, 1, 2)
    assert steps.parts == [[1, 2]]


async def test_after_a_death_records_are_handled_singly(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a batch could have had; then all is as before."""
    await die(database, 0, 1, killer=0, monkeypatch=monkeypatch)
    subscribed, steps = subscription(database), Steps()
    subscribed.limits = type(subscribed.limits)(max_records=3)
    outcomes = await deliver(subscribed, steps, 0, 1, 2)
    await deliver(subscribed, steps, 3, 4)
    assert steps.parts == [[0], [1], [2], [3, 4]]
    assert outcomes == [Outcome.HANDLED] * 3
    assert await rows(database, "SELECT count(*) FROM suspect") == [(0,)]


async def test_the_killer_is_set_aside_after_its_third_death(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch's death blames nobody, three more blame it; what is beside it is handled."""
    for _ in range(4):
        await die(database, 0, 1, 2, killer=1, monkeypatch=monkeypatch)
    steps = Steps(killer=1)
    await deliver(subscription(database), steps, 1, 2)
    assert (steps.crashed, steps.parts[0]) == ([1], [1])


async def test_an_innocent_is_not_blamed_for_deaths_at_other_records(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the process is killed, what it has outlived starts from nothing."""
    for killer in (5, 6, 7, 8, 9, 10):
        await die(database, 0, killer, killer=killer, monkeypatch=monkeypatch)
    steps = Steps()
    await deliver(subscription(database), steps, 0, 5, 6)
    assert steps.crashed == []


async def test_a_database_that_is_away_is_an_outage(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is handled whose attempt could not be written down."""
    from streams.intake.classify import Outage  # noqa: PLC0415
    from streams.storage.errors import DatabaseUnavailable  # noqa: PLC0415

    subscribed, steps = subscription(database), Steps()

    def away() -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(database, "write", away)
    with pytest.raises(Outage):
        await deliver(subscribed, steps, 0)
    assert steps.parts == []
