"""Retries over the real protocol: what failed comes back by itself, in its place, through the same steps."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from streams.alarms.conditions import open_conditions
from streams.alarms.evaluator import Evaluator
from streams.alarms.kinds import KEY_FULL, KILL_SWITCH, OUTAGE, STORE_FULL
from streams.intake import release
from streams.intake.alarm_checks import CHECKS
from streams.intake.classify import Dependency
from streams.intake.kill_switch import KillSwitchLimits
from streams.intake.retries import Retries
from tests.integration.notes_app import LIMITS, echo, notes_app
from tests.kit import rows

if TYPE_CHECKING:
    from streams.alarms.kinds import AlarmKind
    from streams.intake.batch import Batch
    from streams.intake.unit_of_work import UnitOfWork
    from tests.integration.conftest import Ground
    from tests.integration.notes_app import NotesApp

RETRIES = Retries(first_delay_seconds=0.02, longest_delay_seconds=0.1)


class Unreliable:
    """Fails for some notes as often as they say; as a decider does, or by raising."""

    def __init__(self, times: dict[str, int], *, raises: bool = False) -> None:
        self.left = Counter(times)
        self.raises = raises

    async def __call__(self, batch: Batch[Any], work: UnitOfWork) -> None:
        for record in list(batch):
            text = record.message.text
            if work.is_held(record):
                work.hold_back(record)
                batch.remove(record)
            elif self.left[text] > 0:
                self.left[text] -= 1
                error = ValueError(f"not now: {text}")
                if self.raises:
                    raise error
                work.fail(record, error)
                batch.remove(record)
        await echo(batch, work)


async def of_key(app: NotesApp, key: str) -> list[str]:
    found = await rows(app.database, "SELECT key, value FROM outbox ORDER BY id")
    return [json.loads(bytes(value))["text"] for name, value in found if bytes(name).decode() == key]


async def until_nothing_is_parked(app: NotesApp) -> None:
    async def empty() -> bool:
        counts = await app.counts()
        return counts["consumed"] == app.sent and counts["parked"] == 0

    await app.until(empty)


async def test_what_failed_is_handled_later_in_its_place(ground: Ground) -> None:
    """Other keys do not wait; the later records of the key come after it, also those that are sent meanwhile."""
    handle = Unreliable({"a1": 3, "a3": 2})
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", "a1", "a2", "a3", "a4", key=b"a")
        app.send("b0", "b1", key=b"b")
        await app.until_taken()
        app.send("a5", key=b"a")
        await until_nothing_is_parked(app)
        assert await of_key(app, "a") == ["a0", "a1", "a2", "a3", "a4", "a5"]
        assert await of_key(app, "b") == ["b0", "b1"]
        counts = await app.counts()
    assert (counts["handled"], counts["duplicate"], counts["skipped"]) == (8, 0, 0)


async def test_a_handler_that_raises_is_isolated_when_it_is_tried_again(ground: Ground) -> None:
    """A release that fails as a whole is redone in halves like a batch from Kafka."""
    handle = Unreliable({"a1": 6, "c0": 4}, raises=True)
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", "a1", "a2", key=b"a")
        app.send("b0", key=b"b")
        app.send("c0", "c1", key=b"c")
        await until_nothing_is_parked(app)
        assert [await of_key(app, key) for key in "abc"] == [["a0", "a1", "a2"], ["b0"], ["c0", "c1"]]


async def test_what_never_succeeds_dies_and_stays(ground: Ground) -> None:
    """After its attempts it is dead; its followers wait, and nothing is lost."""
    retries = Retries(attempts=3, first_delay_seconds=0.01)
    async with notes_app(ground.broker, ground.database_url, Unreliable({"a0": 99}), retries=retries) as app:
        app.send("a0", "a1", key=b"a")
        await app.until_taken()
        states = "SELECT state, attempts FROM parked ORDER BY id"

        async def dead() -> bool:
            return await rows(app.database, states) == [("dead", 3), ("retrying", 0)]

        await app.until(dead)
        assert (await app.counts())["parked"] == 2


async def test_retries_survive_a_restart(ground: Ground) -> None:
    """They are in the database: whoever runs next goes on with them."""
    slow = Retries(first_delay_seconds=3600.0, longest_delay_seconds=3600.0)
    async with notes_app(ground.broker, ground.database_url, Unreliable({"a0": 1}), retries=slow) as app:
        app.send("a0", "a1", key=b"a")
        await app.until_taken()
        async with app.database.write() as connection:
            await connection.exec_driver_sql("UPDATE parked SET next_attempt_at_ms = 1 WHERE reason = 'failed'")
    async with notes_app(ground.broker, ground.database_url, retries=RETRIES) as app:
        app.sent = 2
        await until_nothing_is_parked(app)
        assert await of_key(app, "a") == ["a0", "a1"]


async def test_an_outage_spends_no_attempt_of_what_is_parked(ground: Ground) -> None:
    """While the database is away nothing is tried; afterwards it goes on where it stood."""
    handle = Unreliable({"a0": 3})
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", key=b"a")
        await app.until_taken()
        async with ground.outage():
            await app.until_paused()
        await until_nothing_is_parked(app)
        assert await rows(app.database, "SELECT attempts FROM parked") == [(4,)]


class Broken:
    """Fails for every record of some texts until it is mended."""

    def __init__(self, *, raises: bool = False, only: int = 1) -> None:
        self.broken = True
        self.raises = raises
        self.only = only

    async def __call__(self, batch: Batch[Any], work: UnitOfWork) -> None:
        for record in list(batch):
            if self.broken and int(record.message.text) % self.only == 0:
                if self.raises:
                    raise KeyError("a wiring error")
                work.fail(record, KeyError("a wiring error"))
                batch.remove(record)
        await echo(batch, work)


QUICK = replace(LIMITS, kill_switch=KillSwitchLimits(first_wait_seconds=0.05, longest_wait_seconds=0.1))


@pytest.mark.parametrize("raises", [False, True])
async def test_a_wiring_error_stops_the_group_and_spends_nothing(ground: Ground, raises: bool) -> None:
    """Many keys fail for one cause: the group waits with an alarm, and goes on by itself once it is mended.

    What came in smaller batches before the twentieth key failed, or was isolated record by record, is parked by then.
    """
    handle = Broken(raises=raises)
    async with notes_app(ground.broker, ground.database_url, handle, limits=QUICK, retries=RETRIES) as app:
        for number in range(60):
            app.send(str(number), key=str(number).encode())
        await app.until(lambda: alarmed(app, KILL_SWITCH))
        assert await rows(app.database, "SELECT count(*) FROM parked WHERE state = 'dead'") == [(0,)]
        assert (await app.counts())["parked"] <= 19
        handle.broken = False
        await until_nothing_is_parked(app)
        assert not await alarmed(app, KILL_SWITCH)
        assert (await app.counts())["handled"] == 60


async def test_a_tenth_of_failing_records_does_not_stop_the_group(ground: Ground) -> None:
    """They are set aside, each for itself."""
    async with notes_app(ground.broker, ground.database_url, Broken(only=10), limits=QUICK) as app:
        for number in range(300):
            app.send(str(number), key=str(number).encode())
        await app.until_taken()
        counts = await app.counts()
        assert (counts["handled"], counts["parked"]) == (270, 30)
        assert not await alarmed(app, KILL_SWITCH)


async def test_an_outage_of_what_a_handler_needs_spends_nothing(ground: Ground) -> None:
    """Confirmed by its probe it is waited for, with an alarm; nothing is parked."""
    away: list[bool] = [True]

    async def probe() -> None:
        if away:
            raise ConnectionError("no rates")

    async def handle(batch: Batch[Any], work: UnitOfWork) -> None:
        if away:
            raise LookupError("no rates")
        await echo(batch, work)

    classifiers = {LookupError: Dependency("rates", probe)}
    async with notes_app(ground.broker, ground.database_url, handle, classifiers=classifiers) as app:
        app.send("a", "b")
        await app.until(lambda: alarmed(app, OUTAGE))
        assert await rows(app.database, "SELECT count(*) FROM parked") == [(0,)]
        away.clear()
        await app.until_taken()
        assert not await alarmed(app, OUTAGE)
        assert (await app.counts())["handled"] == 2


async def test_a_key_with_too_many_parked_records_stops_its_partition_alone(ground: Ground) -> None:
    """Other partitions go on; it resumes by itself once the key has room."""
    handle = Unreliable({"a0": 1})
    retries = Retries(first_delay_seconds=3600.0, longest_delay_seconds=3600.0, key_max_records=5)
    async with notes_app(ground.broker, ground.database_url, handle, retries=retries) as app:
        app.send("a0", key=b"a")
        await app.until_taken()
        app.send(*(f"a{number}" for number in range(1, 30)), key=b"a")
        await app.until(lambda: alarmed(app, KEY_FULL))
        for number in range(20):
            app.send("other", key=str(number).encode())

        async def others() -> bool:
            return (await app.counts())["handled"] > 0

        await app.until(others)
        assert (await app.counts())["parked"] == 5
        async with app.database.write() as connection:
            await connection.exec_driver_sql("UPDATE parked SET next_attempt_at_ms = 1 WHERE reason = 'failed'")
        await until_nothing_is_parked(app)
        assert await of_key(app, "a") == [f"a{number}" for number in range(30)]
        assert not await alarmed(app, KEY_FULL)


async def test_a_full_store_stops_the_group_until_there_is_room(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries go on meanwhile: they are what makes room."""
    monkeypatch.setattr(release, "STORE_LOOK_SECONDS", 0.05)
    retries = Retries(first_delay_seconds=3600.0, longest_delay_seconds=3600.0, store_max_records=3)
    handle = Unreliable({"a": 1, "b": 1, "c": 1})
    async with notes_app(ground.broker, ground.database_url, handle, retries=retries) as app:
        for text in "abc":
            app.send(text, key=text.encode())
        await app.until(lambda: alarmed(app, STORE_FULL))
        app.send("d", key=b"d")
        async with app.database.write() as connection:
            await connection.exec_driver_sql("UPDATE parked SET next_attempt_at_ms = 1")
        await until_nothing_is_parked(app)
        assert not await alarmed(app, STORE_FULL)


async def alarmed(app: NotesApp, kind: AlarmKind) -> bool:
    """Whether an evaluation finds this alarm now."""
    await Evaluator(app.database, CHECKS).evaluate()
    async with app.database.read() as connection:
        return bool(await open_conditions(connection, kind.name))
