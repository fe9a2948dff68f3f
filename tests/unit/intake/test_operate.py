"""What an operator does keeps the order of keys, the counts, and what makes a repeat known; and is written down."""

from __future__ import annotations

import pytest

from streams.intake import operate
from streams.intake.operate import Actor, NotAllowed, Plan, Selection
from streams.intake.record import Record
from streams.intake.retries import Retries
from streams.intake.subscription import Subscription
from streams.storage.database import Database
from tests.kit import note, rows, take
from tests.unit.intake.releases import COUNTS, UNRESOLVED, Handler, due, release, subscription, texts

WHO = Actor("ann@desk", "it was mended")
ACTIONS = "SELECT who, action, subject, reason FROM operator_action ORDER BY id"


def hopeless(database: Database) -> Subscription:
    """Whatever fails is dead at once."""
    return subscription(database, retries=Retries(attempts=1, first_delay_seconds=0.0))


async def planned(database: Database, **chosen: object) -> Plan:
    async with database.read() as connection:
        return await operate.plan_replay(connection, Selection(**chosen))  # type: ignore[arg-type]


async def replayed(database: Database, *ids: int) -> list[int]:
    async with database.write() as connection:
        return await operate.replay(connection, ids, WHO)


async def discarded(database: Database, *ids: int, actor: Actor = WHO) -> list[int]:
    async with database.write() as connection:
        return await operate.discard(connection, ids, actor)


async def test_a_dead_record_is_tried_once_more_and_its_followers_come_after_it(database: Database) -> None:
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    assert await due(subscribed) == []
    handle.bad.clear()
    assert await replayed(database, *(await planned(database, ids=(1,))).heads) == [1]
    await release(subscribed, handle)
    assert await texts(database) == ["a", "b"]
    assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0)]
    assert await rows(database, ACTIONS) == [("ann@desk", "replay", "parked 1", "it was mended")]


async def test_a_replay_that_fails_again_leaves_it_dead(database: Database) -> None:
    """One attempt, not all of them again."""
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a")], handle)
    await replayed(database, 1)
    await release(subscribed, handle)
    assert await rows(database, "SELECT state, attempts FROM parked") == [("dead", 2)]


async def test_a_follower_alone_is_refused(database: Database) -> None:
    """It would overtake; the text names the record to replay instead."""
    await take(hopeless(database), [note(0, "a"), note(1, "b"), note(2, "c")], Handler("a"))
    plan = await planned(database, ids=(2, 99))
    assert plan.heads == {}
    assert "waits behind record 1" in plan.refused[2]
    assert "no unresolved record" in plan.refused[99]


async def test_a_filter_takes_heads_and_counts_their_followers(database: Database) -> None:
    await take(
        hopeless(database),
        [note(0, "a"), note(1, "b"), note(2, "a", key=b"o"), note(3, value=b"{", key=b"o")],
        Handler("a"),
    )
    plan = await planned(database)
    assert (sorted(plan.heads), plan.followers, plan.refused) == ([1, 3, 4], 1, {})
    assert sorted((await planned(database, reason="undecodable")).heads) == [4]
    assert sorted((await planned(database, key=b"o", reason="failed")).heads) == [3]
    assert list((await planned(database, reason="behind")).refused) == [2]


async def test_a_discarded_head_lets_its_followers_go(database: Database) -> None:
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    assert await discarded(database, 1) == [1]
    assert await rows(database, COUNTS) == [(2, 0, 0, 1, 1)]
    await release(subscribed, handle)
    assert await texts(database) == ["b"]
    assert await rows(database, COUNTS) == [(2, 1, 0, 0, 1)]
    assert await rows(database, UNRESOLVED) == []


async def test_a_discarded_follower_is_left_out(database: Database) -> None:
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b"), note(2, "c")], handle)
    await discarded(database, 2)
    handle.bad.clear()
    await replayed(database, 1)
    await release(subscribed, handle)
    assert await texts(database) == ["a", "c"]


async def test_a_discarded_record_that_comes_again_is_a_duplicate(database: Database) -> None:
    """Read again from its place, or sent again with its id: it is not applied."""
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a", message_id="x")], handle)
    await discarded(database, 1)
    handle.bad.clear()
    other = subscription(database)
    await take(other, [note(0, "a", message_id="x")], handle)
    await take(other, [note(1, "a", message_id="x", key=b"other")], handle)
    assert await texts(database) == []
    assert await rows(database, COUNTS) == [(3, 0, 2, 0, 1)]


async def test_what_has_no_id_is_known_by_its_place_when_it_comes_again(database: Database) -> None:
    """The discarded row itself is the tombstone."""
    await take(subscription(database), [nameless()])
    await discarded(database, 1)
    await take(subscription(database), [nameless()])
    assert await rows(database, COUNTS) == [(2, 0, 1, 0, 1)]


def nameless() -> Record:
    record = note(0, "a", key=None)
    record.headers = [("ce_type", b"note.v1")]
    return record


async def test_a_discard_needs_a_reason(database: Database) -> None:
    await take(hopeless(database), [note(0, "a")], Handler("a"))
    with pytest.raises(NotAllowed, match="say why"):
        await discarded(database, 1, actor=Actor("ann"))
    assert await rows(database, UNRESOLVED) == [(0,)]


async def test_nothing_is_discarded_or_replayed_twice(database: Database) -> None:
    await take(hopeless(database), [note(0, "a")], Handler("a"))
    assert [await discarded(database, 1), await discarded(database, 1), await replayed(database, 1)] == [[1], [], []]
    assert await rows(database, COUNTS) == [(1, 0, 0, 0, 1)]


async def test_an_edit_keeps_the_original_and_is_what_is_handled(database: Database) -> None:
    subscribed, handle = hopeless(database), Handler("a")
    await take(subscribed, [note(0, "a", message_id="x")], handle)
    async with database.write() as connection:
        await operate.edit(connection, 1, WHO, value=b'{"text": "mended"}')
    await replayed(database, 1)
    await release(subscribed, handle)
    assert await texts(database) == ["mended"]
    assert await rows(database, "SELECT value FROM parked") == [(b'{"text": "a"}',)]
    assert [action for _, action, _, _ in await rows(database, ACTIONS)] == ["edit", "replay"]


async def test_an_edit_cannot_change_the_id(database: Database) -> None:
    await take(hopeless(database), [note(0, "a", message_id="x")], Handler("a"))
    async with database.write() as connection:
        with pytest.raises(NotAllowed, match="ce_id must stay"):
            await operate.edit(connection, 1, WHO, value=b"{}", headers=[("ce_id", b"y"), ("ce_source", b"test")])
        with pytest.raises(NotAllowed, match="no unresolved record 9"):
            await operate.edit(connection, 9, WHO, value=b"{}")


async def test_acknowledged_gaps_are_counted_and_raise_no_alarm(database: Database) -> None:
    from streams.intake.alarm_checks import CHECKS  # noqa: PLC0415  only here

    await take(subscription(database), [note(0)])
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE progress SET lost = 3, skipped = 2")

    async def alarms() -> int:
        async with database.read() as connection:
            return sum([len(await check.find(connection)) for check in CHECKS])

    assert await alarms() == 2
    async with database.write() as connection:
        (gap,) = await operate.acknowledge_gaps(connection, WHO)
        assert await operate.acknowledge_gaps(connection, WHO) == []
    assert (gap["lost"], gap["skipped"]) == (3, 2)
    assert await alarms() == 0
    assert await rows(database, "SELECT lost, skipped FROM progress") == [(3, 2)]
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE progress SET lost = 4")
    assert await alarms() == 1
