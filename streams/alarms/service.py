"""Everything about alarms that runs in a process: one evaluator, one notifier for each sink."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streams.alarms.evaluator import Evaluator
from streams.alarms.notifier import REPEAT_SECONDS, Notifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.alarms.evaluator import Check
    from streams.alarms.sinks import AlarmSink
    from streams.storage.database import Database

__all__ = ["AlarmService"]


class AlarmService:
    """Looks and tells from `start` to `stop`.

    Args:
        database: where conditions are.
        checks: what to look at.
        sinks: whom to tell; their names must differ.
        repeat_seconds: after how long an open condition is told again.
    """

    def __init__(
        self,
        database: Database,
        checks: Sequence[Check],
        sinks: Sequence[AlarmSink],
        *,
        repeat_seconds: float = REPEAT_SECONDS,
    ) -> None:
        names = [sink.name for sink in sinks]
        if len(set(names)) != len(names):
            raise ValueError(f"two sinks have one name: {sorted(names)}")
        self._evaluator = Evaluator(database, checks)
        self._sinks = tuple(sinks)
        self._notifiers = [Notifier(database, sink, repeat_seconds=repeat_seconds) for sink in sinks]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> bool:
        """Whether every background task is alive."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def start(self) -> None:
        """Look and tell in the background."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._evaluator.run(), name="alarm-checks")]
        for notifier, sink in zip(self._notifiers, self._sinks, strict=True):
            self._tasks.append(loop.create_task(notifier.run(), name=f"alarms-to-{sink.name}"))

    async def stop(self) -> None:
        """Stop at once. What was being told is told again by whoever comes next, once its claim has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for sink in self._sinks:
            await sink.close()
