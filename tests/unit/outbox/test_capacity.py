"""A full outbox keeps new work out until there is room again, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streams.intake.admission import while_outbox_has_room
from streams.intake.classify import Outage
from streams.outbox.alarm_checks import outbox_checks
from streams.outbox.capacity import Capacity, CapacityLimits, Filling, OutboxFull
from streams.outbox.lanes import BreakerNote, LaneLeases
from tests.unit.outbox.test_refusals import put

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.storage.database import Database


class Watchful(Capacity):
    """Counts whenever it is asked."""

    async def seen_by(self, connection: AsyncConnection) -> Filling:
        self._look_again_at = float("-inf")
        return await super().seen_by(connection)


async def send(database: Database, count: int) -> None:
    async with database.write() as connection:
        await connection.exec_driver_sql(
            "UPDATE outbox SET sent_at_ms = 1 WHERE id IN (SELECT id FROM outbox WHERE sent_at_ms IS NULL LIMIT "
            f"{count})"
        )


async def raised(database: Database, capacity: Capacity, expire_seconds: float = 86_400.0) -> dict[str, dict[str, str]]:
    """The alarms' names, with what they concern."""
    found = {}
    async with database.read() as connection:
        for check in outbox_checks(capacity, expire_seconds):
            subjects = await check.find(connection)
            if subjects:
                found[check.kind.name] = dict(subjects)
    return found


async def test_filling_full_and_room_again(database: Database) -> None:
    """Each limit is met exactly; it opens again at nine tenths and not before."""
    capacity = Watchful(database, CapacityLimits(max_rows=20, warning_share=0.75))
    admit = while_outbox_has_room(capacity)
    await put(database, *(f"k.{number}" for number in range(14)))
    assert await raised(database, capacity) == {}
    await put(database, "k.14")
    assert await raised(database, capacity) == {"outbox-filling": {"outbox": "75 % full"}}
    admit()
    await put(database, *(f"k.{number}" for number in range(15, 20)))
    assert list(await raised(database, capacity)) == ["outbox-full"]
    with pytest.raises(Outage, match="20 of 20 rows") as outage:
        admit()
    assert outage.value.dependency is not None
    await send(database, 2)
    with pytest.raises(OutboxFull):
        await outage.value.dependency.probe()
    await send(database, 1)
    await outage.value.dependency.probe()
    admit()
    assert list(await raised(database, capacity)) == ["outbox-filling"]


async def test_bytes_count_as_well(database: Database) -> None:
    """Values and headers."""
    capacity = Watchful(database, CapacityLimits(max_bytes=2 * (len("k.0") + len("[]"))))
    await put(database, "k.0")
    await capacity.check_room()
    await put(database, "k.1")
    with pytest.raises(OutboxFull):
        await capacity.check_room()


async def test_a_look_is_remembered(database: Database) -> None:
    """Counting costs: a second question a moment later is answered from the first."""
    capacity = Capacity(database, clock=lambda: 5.0)
    await capacity.look()
    await put(database, "k.0")
    await capacity.look()
    assert capacity.filling.rows == 0


async def test_late_and_expired_events_raise_alarms(database: Database) -> None:
    """By topic."""
    await put(database, "k.0", topic="new")
    await put(database, "k.0", topic="old")
    async with database.write() as connection:
        await connection.exec_driver_sql(
            "UPDATE outbox SET created_at_ms = created_at_ms - 1000000 WHERE topic = 'old'"
        )
    capacity = Capacity(database)
    assert {name: set(of) for name, of in (await raised(database, capacity)).items()} == {"outbox-late": {"old"}}
    found = await raised(database, capacity, expire_seconds=999.0)
    assert {name: set(of) for name, of in found.items()} == {"outbox-late": {"old"}, "outbox-expired": {"old"}}


async def test_a_breaker_that_stays_open_raises_an_alarm(database: Database) -> None:
    """With what it met; a short opening does not, nor that of an instance that is no more."""
    capacity = Capacity(database)
    leases, dead = LaneLeases(database, instance="one"), LaneLeases(database, lease_seconds=0.0)
    await dead.renew(breaker=BreakerNote("open", 5000.0, "gone"))
    await leases.renew(breaker=BreakerNote("open", 50.0, "no answer"))
    assert await raised(database, capacity) == {}
    await leases.renew(breaker=BreakerNote("half-open", 70.0, "no answer"))
    found = await raised(database, capacity)
    assert "no answer" in found["relay-breaker-open"]["one"]
