"""Which lanes this instance publishes: leases in the database, divided among the relays that live.

Invariant: by the database's clock at most one instance holds a lane, and an instance that cannot renew stops by its
own clock before its lease has ended. Kafka cannot check a fence, so one that was frozen may still repeat a row; it
never puts a first occurrence out of order, because it begins where the database says.

Each instance keeps a row of its own fresh. The share of one is ceil(lanes / instances that live); who has more gives
lanes back once nothing of theirs is in flight, and who has less takes what is free.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import delete, func, select, update

from streams.outbox.tables import LANES, relay_instance
from streams.storage.bulk import insert_absent, upsert_rows
from streams.storage.clock import database_time_ms
from streams.storage.lease_table import lease
from streams.storage.locks import lock_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.storage.database import Database

__all__ = ["LEASE_SECONDS", "BreakerNote", "Lane", "LaneLeases", "divide", "lane_holders"]

LEASE_SECONDS = 10.0
"""How long a lane stays with an instance that is not heard of: bounds how long its events wait after its death."""
RENEWALS_PER_LEASE = 4
SAFETY = 0.8
"""An instance trusts its lease for this share of it, by its own clock and counted from before it asked."""
DIVIDING_LOCK = "relay-lanes"


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as the table has it."""

    number: int
    holder: str | None
    expires_at_ms: int | None

    def is_free(self, now_ms: int) -> bool:
        """Whether nobody holds it."""
        return self.holder is None or self.expires_at_ms is None or self.expires_at_ms <= now_ms


@dataclass(frozen=True, slots=True)
class BreakerNote:
    """How an instance's circuit breaker stands, for others to see."""

    state: str = "closed"
    not_closed_seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Division:
    """What one renewal does: lanes to keep or take, lanes to give back, and how many too many are kept."""

    hold: frozenset[int]
    release: frozenset[int]
    leave: frozenset[int]


def divide(lanes: Iterable[Lane], me: str, instances: int, now_ms: int, done: Collection[int]) -> Division:
    """How many lanes are ours, and which.

    Args:
        lanes: all of them.
        me: this instance.
        instances: how many live, this one included.
        now_ms: by the database.
        done: lanes of ours that have nothing in flight any more, after they were to be left.
    """
    lanes = sorted(lanes, key=lambda one: one.number)
    share = math.ceil(len(lanes) / max(1, instances))
    mine = [one.number for one in lanes if one.holder == me and not one.is_free(now_ms)]
    excess = mine[share:]
    release = frozenset(number for number in excess if number in done)
    free = [one.number for one in lanes if one.is_free(now_ms)]
    take = free[: max(0, share - len(mine))]
    hold = frozenset(mine) - release | frozenset(take)
    return Division(hold, release, frozenset(excess) - release)


class LaneLeases:
    """This instance's lanes.

    Args:
        database: holds the leases; its clock counts.
        instance: a name that no other process has; by default a new one.
        lease_seconds: see `LEASE_SECONDS`.
        clock: seconds that never go back, and go on while the process is stopped.
    """

    def __init__(
        self,
        database: Database,
        *,
        instance: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.instance = instance or str(uuid4())
        self.lease_seconds = lease_seconds
        self.renew_seconds = lease_seconds / RENEWALS_PER_LEASE
        self._database = database
        self._clock = clock
        self._held: frozenset[int] = frozenset()
        self._valid_until = -math.inf
        self.leaving: frozenset[int] = frozenset()
        """Lanes that are too many: nothing new of them is to be begun."""

    @property
    def valid(self) -> bool:
        """Whether the lease can be trusted now."""
        return self._clock() < self._valid_until

    @property
    def lanes(self) -> frozenset[int]:
        """The lanes whose rows may be begun now."""
        return self._held - self.leaving if self.valid else frozenset()

    async def renew(self, done: Collection[int] = (), breaker: BreakerNote | None = None) -> frozenset[int]:
        """Say that this instance lives, and agree on the lanes.

        Args:
            done: lanes to be left that have nothing in flight.
            breaker: written down for others.

        Returns:
            Lanes that were held and have been lost to others.
        """
        asked = self._clock()
        async with self._database.write() as connection:
            await lock_alone(connection, DIVIDING_LOCK)
            now_ms = await database_time_ms(connection)
            await self._say_alive(connection, now_ms, breaker or BreakerNote())
            lanes = await _load(connection)
            division = divide(lanes, self.instance, await _instances(connection, now_ms), now_ms, done)
            await self._write_down(connection, division, lanes, now_ms)
        lost = self._held - division.hold - division.release
        self._held, self.leaving = division.hold, division.leave
        self._valid_until = asked + self.lease_seconds * SAFETY
        return lost

    async def release(self) -> None:
        """Give every lane back, so that nobody waits for the lease to end."""
        self._held, self.leaving, self._valid_until = frozenset(), frozenset(), -math.inf
        async with self._database.write() as connection:
            await lock_alone(connection, DIVIDING_LOCK)
            await connection.execute(
                update(lease).where(lease.c.holder == self.instance).values(holder=None, expires_at_ms=None)
            )
            await connection.execute(delete(relay_instance).where(relay_instance.c.instance == self.instance))

    async def _say_alive(self, connection: AsyncConnection, now_ms: int, breaker: BreakerNote) -> None:
        since_ms = now_ms - round(breaker.not_closed_seconds * 1000)
        row = (self.instance, now_ms + self._lease_ms, breaker.state, since_ms, breaker.error)
        columns = ("instance", "expires_at_ms", "breaker", "breaker_since_ms", "breaker_error")
        await upsert_rows(connection, relay_instance, columns, [row])
        await connection.execute(delete(relay_instance).where(relay_instance.c.expires_at_ms < now_ms))

    async def _write_down(
        self, connection: AsyncConnection, division: Division, lanes: Iterable[Lane], now_ms: int
    ) -> None:
        expires = now_ms + self._lease_ms
        mine = {_name(one.number) for one in lanes if one.holder == self.instance}
        held = {_name(number) for number in division.hold}
        kept, taken = sorted(held & mine), sorted(held - mine)
        await connection.execute(update(lease).where(lease.c.name.in_(kept)).values(expires_at_ms=expires))
        await connection.execute(
            update(lease)
            .where(lease.c.name.in_(taken))
            .values(holder=self.instance, fence=lease.c.fence + 1, expires_at_ms=expires)
        )
        await connection.execute(
            update(lease)
            .where(lease.c.name.in_([_name(number) for number in division.release]))
            .values(holder=None, expires_at_ms=None)
        )

    @property
    def _lease_ms(self) -> int:
        return round(self.lease_seconds * 1000)


async def lane_holders(connection: AsyncConnection) -> dict[int, str | None]:
    """Which instance publishes each lane; None: nobody does now."""
    now_ms = await database_time_ms(connection)
    names = {_name(number): number for number in range(LANES)}
    held = select(lease.c.name, lease.c.holder).where(lease.c.name.in_(sorted(names)), lease.c.expires_at_ms > now_ms)
    holders: dict[int, str | None] = dict.fromkeys(range(LANES))
    return holders | {names[name]: holder for name, holder in await connection.execute(held)}


def _name(lane: int) -> str:
    return f"relay/lane/{lane:02}"


async def _instances(connection: AsyncConnection, now_ms: int) -> int:
    live = select(func.count()).select_from(relay_instance).where(relay_instance.c.expires_at_ms > now_ms)
    return int((await connection.execute(live)).scalar_one())


async def _load(connection: AsyncConnection) -> list[Lane]:
    """Every lane; those that no relay has ever held are written first."""
    numbers = {_name(number): number for number in range(LANES)}
    wanted = select(lease.c.name, lease.c.holder, lease.c.expires_at_ms).where(lease.c.name.in_(sorted(numbers)))
    rows = (await connection.execute(wanted)).all()
    if len(rows) < LANES:
        await insert_absent(connection, lease, ("name",), [(name,) for name in sorted(numbers)])
        rows = (await connection.execute(wanted)).all()
    return [Lane(numbers[name], holder, expires_at_ms) for name, holder, expires_at_ms in rows]
