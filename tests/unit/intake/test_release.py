"""Parked records are tried again, in the order of their keys, and each moves from `parked` to one other count."""

from __future__ import annotations

import pytest

from streams.intake import release_store
from streams.intake.record import Outcome, Reason
from streams.intake.retries import Retries
from streams.storage.database import Database
from tests.kit import TOPIC, note, rows, take
from tests.unit.intake.releases import COUNTS, STATES, UNRESOLVED, Handler, due, release, subscription, texts


async def test_a_record_that_succeeds_at_last_moves_to_handled(database: Database) -> None:
    """It leaves `parked`, its event goes out, and its inbox row makes a repeat a duplicate."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a", message_id="x")], handle)
    handle.bad.clear()
    await release(subscribed, handle)
    assert await rows(database, COUNTS) == [(1, 1, 0, 0, 0)]
    assert await rows(database, UNRESOLVED) == []
    await take(subscribed, [note(1, "a", message_id="x")], handle)
    assert await rows(database, COUNTS) == [(2, 1, 1, 0, 0)]
    assert await texts(database) == ["a"]


async def test_followers_come_after_their_head_in_order(database: Database) -> None:
    """One transaction takes the head and those behind it; other keys take nothing from them."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b"), note(2, "c"), note(3, "other", key=b"o")], handle)
    await take(subscribed, [note(4, "d")], handle)
    handle.bad.clear()
    await release(subscribed, handle)
    assert await texts(database) == ["other", "a", "b", "c", "d"]
    assert await rows(database, COUNTS) == [(5, 5, 0, 0, 0)]


async def test_nothing_of_a_key_is_handled_past_a_head_that_fails_again(database: Database) -> None:
    """The attempt is counted, the followers wait on."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    await release(subscribed, handle)
    assert await rows(database, STATES) == [(0, "failed", "retrying", 2, True), (1, "behind", "retrying", 0, False)]
    assert await texts(database) == []
    assert await rows(database, COUNTS) == [(2, 0, 0, 2, 0)]


async def test_a_follower_that_fails_becomes_the_head(database: Database) -> None:
    """What came before it is done, what comes after it waits for it."""
    subscribed, handle = subscription(database), Handler("a", "b")
    await take(subscribed, [note(0, "a"), note(1, "b"), note(2, "c")], handle)
    handle.bad = {"b"}
    await release(subscribed, handle)
    assert await texts(database) == ["a"]
    assert (await rows(database, STATES))[1:] == [
        (1, "failed", "retrying", 1, True),
        (2, "behind", "retrying", 0, False),
    ]
    handle.bad.clear()
    await release(subscribed, handle)
    assert await texts(database) == ["a", "b", "c"]


async def test_a_chunk_ends_and_the_next_one_goes_on(database: Database) -> None:
    """However many wait, a transaction takes a bounded number, and the next record's turn comes at once."""
    subscribed, handle = subscription(database), Handler("0")
    await take(subscribed, [note(number, str(number)) for number in range(7)], handle)
    handle.bad.clear()
    for expected in (3, 6, 7):
        await release(subscribed, handle, at_most=3)
        assert len(await texts(database)) == expected
    assert await texts(database) == [str(number) for number in range(7)]


async def test_the_last_attempt_ends_in_death(database: Database) -> None:
    """Nothing tries it again by itself, and its key stays held."""
    subscribed, handle = subscription(database, retries=Retries(attempts=3, first_delay_seconds=0.0)), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    for _ in range(2):
        await release(subscribed, handle)
    assert await rows(database, STATES) == [(0, "failed", "dead", 3, False), (1, "behind", "retrying", 0, False)]
    assert await due(subscribed) == []
    await take(subscribed, [note(2, "c")], handle)
    assert await texts(database) == []


async def test_one_attempt_means_none_after_the_first(database: Database) -> None:
    """With `attempts=1` a failure is dead at once."""
    subscribed = subscription(database, retries=Retries(attempts=1))
    await take(subscribed, [note(0, "a")], Handler("a"))
    assert await rows(database, STATES) == [(0, "failed", "dead", 1, False)]


async def test_an_unknown_type_is_handled_once_a_deploy_has_brought_it(database: Database) -> None:
    """It holds its key until then, and is handled in its place."""
    before = subscription(database)
    await take(before, [note(0, "a", type_name="new.v1"), note(1, "b")], Handler())
    assert await rows(database, STATES) == [
        (0, "unknown-type", "retrying", 0, True),
        (1, "behind", "retrying", 0, False),
    ]
    after, handle = subscription(database, accepts=["note.v1", "new.v1"]), Handler()
    await release(after, handle)
    assert (await rows(database, STATES))[0] == (0, "unknown-type", "retrying", 1, True)

    class Wider(type(after.catalog)):  # type: ignore[misc]  # the catalogue of the next version
        def decoder(self, type_name: str) -> object:
            return super().decoder("note.v1" if type_name == "new.v1" else type_name)

    after.catalog = Wider()
    await release(after, handle)
    assert await texts(database) == ["a", "b"]


async def test_an_unknown_type_behind_a_failed_record_does_not_stop_it(database: Database) -> None:
    """Only what comes after a record waits for it, also inside one transaction."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b", type_name="new.v1"), note(2, "c")], handle)
    assert (await rows(database, STATES))[0] == (0, "failed", "retrying", 1, True)
    handle.bad.clear()
    await release(subscribed, handle)
    assert await texts(database) == ["a"]
    assert (await rows(database, STATES))[1] == (1, "unknown-type", "retrying", 1, True)


async def test_an_unknown_type_later_in_the_batch_does_not_hold_back_what_is_before_it(database: Database) -> None:
    """It is set aside before the handler runs, and yet the earlier record of its key is handled."""
    await take(subscription(database), [note(0, "a"), note(1, "b", type_name="new.v1")], handle := Handler())
    assert handle.emitted == ["a"]


async def test_a_record_that_has_become_a_duplicate_is_resolved_as_one(database: Database) -> None:
    """Its message was handled meanwhile, from another place: it is not applied twice."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a", message_id="x")], handle)
    handle.bad.clear()
    await take(subscribed, [note(1, "a", key=b"other", message_id="x")], handle)
    (record,) = await release(subscribed, handle)
    assert record.outcome is Outcome.DUPLICATE
    assert await rows(database, COUNTS) == [(2, 1, 1, 0, 0)]
    assert await texts(database) == ["a"]


async def test_a_head_that_turns_out_invalid_lets_its_key_go(database: Database) -> None:
    """A type that a deploy has brought, and a body that its contract refuses: dead, and holding nobody."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE parked SET edits = 1, edited_value = '{}' WHERE reason = 'failed'")
    handle.bad.clear()
    await release(subscribed, handle)
    assert (await rows(database, STATES))[0] == (0, "invalid", "dead", 2, False)
    await release(subscribed, handle)
    assert await texts(database) == ["b"]


async def test_an_edited_record_is_handled_as_edited_and_known_by_its_original(database: Database) -> None:
    """A repeat of the original message is a duplicate, not another message with its id."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a", message_id="x")], handle)
    async with database.write() as connection:
        await connection.exec_driver_sql("""UPDATE parked SET edits = 1, edited_value = '{"text": "mended"}'""")
    await release(subscribed, handle)
    await take(subscribed, [note(1, "a", message_id="x")], handle)
    assert await texts(database) == ["mended"]
    assert await rows(database, COUNTS) == [(2, 1, 1, 0, 0)]


async def test_what_was_edited_after_it_was_read_is_left_to_the_next_look(database: Database) -> None:
    """A claim is of the row as it was read; and of its followers none goes before it."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    seen = await due(subscribed)
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE parked SET edits = 1, edited_value = '{}' WHERE reason = 'failed'")
    handle.bad.clear()
    await release(subscribed, handle, seen)
    assert (await texts(database), await rows(database, COUNTS)) == ([], [(2, 0, 0, 2, 0)])


async def test_what_another_one_has_released_is_not_released_again(database: Database) -> None:
    """Two workers that saw the same rows: the second one's claim finds nothing."""
    one, other, handle = subscription(database), subscription(database), Handler("a")
    await take(one, [note(0, "a"), note(1, "b")], handle)
    seen = await due(other)
    handle.bad.clear()
    await release(one, handle)
    await release(other, handle, seen)
    assert await texts(database) == ["a", "b"]
    assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0)]


async def test_a_follower_is_not_released_without_its_head(database: Database) -> None:
    """As in the second half of a chunk whose first half failed."""
    subscribed, handle = subscription(database), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b"), note(2, "c")], handle)
    _, *followers = await due(subscribed)
    assert [record.outcome for record in await release(subscribed, handle, followers)] == [None, None]
    assert await texts(database) == []


async def test_records_without_a_key_hold_nothing(database: Database) -> None:
    """Each of them is tried for itself."""
    subscribed, handle = subscription(database), Handler("a", "b")
    await take(subscribed, [note(0, "a", key=None), note(1, "b", key=None), note(2, "c", key=None)], handle)
    handle.bad = {"a"}
    await release(subscribed, handle)
    assert await texts(database) == ["c", "b"]


async def test_what_holds_a_key_can_be_chosen(database: Database) -> None:
    """A group for which a failed record does not matter to the later ones of its key goes on with them."""
    retries = Retries(first_delay_seconds=0.0, holding=frozenset({Reason.BEHIND, Reason.CRASHED, Reason.UNKNOWN_TYPE}))
    subscribed, handle = subscription(database, retries=retries), Handler("a")
    await take(subscribed, [note(0, "a"), note(1, "b")], handle)
    assert await texts(database) == ["b"]
    handle.bad.clear()
    await release(subscribed, handle)
    assert await texts(database) == ["b", "a"]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"holding": frozenset({Reason.FAILED})}])
def test_senseless_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|holds its key"):
        Retries(**wrong)  # type: ignore[arg-type]


def test_delays_double_up_to_a_bound() -> None:
    """From about 100 ms, each spread over the upper half of its bound."""
    retries = Retries(first_delay_seconds=0.1, longest_delay_seconds=1.0)
    for attempts, bound_ms in ((1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (500, 1000)):
        assert all(bound_ms / 2 <= retries.delay_ms(attempts) <= bound_ms for _ in range(50))


async def test_a_key_that_has_lost_its_head_gets_one(database: Database) -> None:
    """Whoever deletes a row by hand orphans what waits behind it; it is found and goes on."""
    subscribed, handle = subscription(database), Handler("a", "z")
    await take(subscribed, [note(0, "a"), note(1, "b"), note(2, "z", key=b"z"), note(3, "y", key=b"z")], handle)
    async with database.write() as connection:
        await connection.exec_driver_sql("""UPDATE parked SET resolved_at_ms = 1 WHERE "offset" = 0""")
    handle.bad.clear()
    async with database.write() as connection:
        assert await release_store.adopt(connection, subscribed.group, [TOPIC], 1) == 1
        assert await release_store.adopt(connection, subscribed.group, [TOPIC], 1) == 0
    await release(subscribed, handle)
    assert await texts(database) == ["b", "z", "y"]
