"""An alarm kind, a sink that writes down what it is told, and a clock for the tests of alarms."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from streams.alarms.conditions import clear_alarm, raise_alarm
from streams.alarms.kinds import AlarmKind, Severity
from streams.alarms.notifier import Notifier

if TYPE_CHECKING:
    from streams.alarms.notices import Notice
    from streams.storage.database import Database

FIRE = AlarmKind("fire", Severity.CRITICAL, "Something burns.", "fire")
SMOKE = AlarmKind("smoke", Severity.WARNING, "Something may burn.", "smoke")
BEGINNING_MS = 1_700_000_000_000


class Clock:
    """The time in milliseconds; moves when it is told to."""

    def __init__(self) -> None:
        self.now_ms = BEGINNING_MS

    async def __call__(self, _connection: object) -> int:
        return self.now_ms

    def pass_seconds(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


class HeardSink:
    """Takes everything, unless it is told to fail."""

    name = "heard"

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.failing = False
        self.attempts = 0

    async def notify(self, notice: Notice, /) -> None:
        self.attempts += 1
        if self.failing:
            raise ConnectionError("nobody there")
        self.notices.append(notice)

    async def close(self) -> None:
        pass

    @property
    def heard(self) -> list[tuple[str, str, int]]:
        return [(one.event.value, one.subject, one.number) for one in self.notices]


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Rig:
    """One instance: a notifier with its sink, on a database that others may share."""

    def __init__(self, database: Database, clock: Clock, sink: Any = None, repeat_seconds: float = 100) -> None:
        self.database = database
        self.clock = clock
        self.sink = sink or HeardSink()
        self.notifier = Notifier(database, self.sink, repeat_seconds=repeat_seconds, clock=clock, random=NoJitter())

    async def raises(self, subject: str = "house", detail: str = "hot", kind: AlarmKind = FIRE) -> bool:
        async with self.database.write() as connection:
            return await raise_alarm(connection, kind, subject, detail, now_ms=self.clock.now_ms)

    async def clears(self, subject: str = "house", kind: AlarmKind = FIRE) -> bool:
        async with self.database.write() as connection:
            return await clear_alarm(connection, kind, subject, now_ms=self.clock.now_ms)

    async def tell(self) -> int:
        return await self.notifier.tell()
