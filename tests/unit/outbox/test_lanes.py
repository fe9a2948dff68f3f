"""Lanes are divided among the relays that live, and each has one holder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from streams.outbox.lanes import BreakerNote, Lane, LaneLeases, divide, lane_holders
from streams.outbox.summary import breaker_state
from streams.outbox.tables import LANES
from tests.kit import rows

if TYPE_CHECKING:
    from streams.storage.database import Database

EVERY = frozenset(range(LANES))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 20), st.integers(1, 40))
def test_live_instances_end_with_fair_shares(instances: int, rounds: int) -> None:
    """However many there are: after each has renewed often enough every lane is held, nobody has more than a share."""
    holders: dict[int, str | None] = dict.fromkeys(range(LANES))
    names = [f"i{number}" for number in range(instances)]
    for _ in range(rounds + 2 * LANES):
        for name in names:
            lanes = [Lane(number, holder, 1_000) for number, holder in holders.items()]
            division = divide(lanes, name, instances, now_ms=0, done=EVERY)
            for number in range(LANES):
                if number in division.hold:
                    assert holders[number] in {None, name}
                    holders[number] = name
                elif number in division.release:
                    holders[number] = None
    share = -(-LANES // instances)
    assert None not in holders.values()
    assert all(list(holders.values()).count(name) <= share for name in names)


def test_a_lane_with_rows_in_flight_is_not_given_back() -> None:
    """It is left first: nothing new of it is begun."""
    lanes = [Lane(number, "me", 1_000) for number in range(4)]
    division = divide(lanes, "me", instances=2, now_ms=0, done={3})
    assert division.release == {3}
    assert division.leave == {2}
    assert division.hold == {0, 1, 2}


def test_only_expired_leases_are_taken_over() -> None:
    """To the millisecond of the database's clock."""
    lanes = [Lane(0, "other", 500), Lane(1, "other", 501)]
    assert divide(lanes, "me", instances=1, now_ms=500, done=()).hold == {0}


async def test_two_instances_share(database: Database) -> None:
    """The second one gets its half when the first has renewed and given it back."""
    first, second = LaneLeases(database), LaneLeases(database)
    await first.renew()
    assert first.lanes == EVERY
    await second.renew()
    assert second.lanes == frozenset()
    await first.renew()
    assert len(first.lanes) == LANES // 2, "what is to be left is not begun any more"
    await first.renew(done=first.leaving)
    await second.renew()
    assert first.lanes | second.lanes == EVERY
    assert not first.lanes & second.lanes


async def test_what_a_dead_instance_held_is_taken_over(database: Database) -> None:
    """After its lease has ended, with a higher fence, and the dead one no longer counts."""
    dead, heir = LaneLeases(database, lease_seconds=0.01), LaneLeases(database)
    await dead.renew()
    while heir.lanes != EVERY:
        await heir.renew()
    assert {row[0] for row in await rows(database, "SELECT fence FROM lease")} == {2}
    assert await dead.renew() == EVERY, "it is told that it has lost them"
    assert dead.lanes == frozenset()


async def test_an_instance_that_cannot_renew_stops_by_its_own_clock(database: Database) -> None:
    """Before anybody else may take over."""
    clock = Clock()
    leases = LaneLeases(database, lease_seconds=10.0, clock=clock)
    await leases.renew()
    clock.now += 7.9
    assert leases.lanes == EVERY
    clock.now += 0.2
    assert leases.lanes == frozenset()


async def test_a_stop_leaves_nothing_to_wait_for(database: Database) -> None:
    """The next instance has every lane at once."""
    first, second = LaneLeases(database), LaneLeases(database)
    await first.renew()
    await first.release()
    await second.renew()
    assert second.lanes == EVERY


async def test_everybody_sees_holders_and_breakers(database: Database) -> None:
    """The worst breaker of those that live is shown."""
    first, second = LaneLeases(database), LaneLeases(database)
    async with database.read() as connection:
        assert await breaker_state(connection) is None
    await first.renew()
    await second.renew(breaker=BreakerNote("open", 5.0, "no answer"))
    async with database.read() as connection:
        assert await breaker_state(connection) == "open"
        assert set((await lane_holders(connection)).values()) == {first.instance}
