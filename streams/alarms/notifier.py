"""Hands what is due to one sink, in the background.

Invariant: no sink is called inside a transaction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from streams.alarms.notices import anything_due, claim, put_off, settle
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.alarms.notices import Claim
    from streams.alarms.sinks import AlarmSink
    from streams.storage.database import Database

__all__ = ["REPEAT_SECONDS", "Notifier"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
CLAIM_MAX_NOTICES = 10
CLAIM_SECONDS = 30.0
SINK_TIMEOUT_SECONDS = 10.0
"""Well below the claim's life, or another instance would tell the same while this one still tries."""
RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 2.0, 600.0
REPEAT_SECONDS = 14_400.0
"""Alertmanager's default `repeat_interval`."""


class Notifier:
    """Tells one sink.

    Any number of notifiers, in any number of processes, may serve sinks of one name: one of them tells each notice.

    Args:
        database: holds the conditions.
        sink: whom to tell.
        repeat_seconds: after how long an open condition is told again.
        clock: the time in milliseconds, by default the database's.
        random: spreads the waits after a failure.
    """

    def __init__(
        self,
        database: Database,
        sink: AlarmSink,
        *,
        repeat_seconds: float = REPEAT_SECONDS,
        clock: Callable[[AsyncConnection], Awaitable[int]] = database_time_ms,
        random: Random | None = None,
    ) -> None:
        self._database = database
        self._sink = sink
        self._repeat_ms = int(repeat_seconds * 1000)
        self._clock = clock
        self._random = random
        self._holder = str(uuid4())

    async def run(self) -> None:
        """Tell until cancelled. The database being away delays it; the conditions are in there."""
        while True:
            try:
                told = await self.tell()
            except Exception as error:  # whatever it is, alarms go on
                log.warning("notifier cannot work", sink=self._sink.name, error=_first_line(error))
                told = 0
            if told < CLAIM_MAX_NOTICES:
                await asyncio.sleep(POLL_SECONDS)

    async def tell(self) -> int:
        """Tell what is due now; how many notices that were, taken or not.

        Raises:
            StorageError: the database is away.
        """
        sink = self._sink.name
        async with self._database.read() as connection:
            if not await anything_due(connection, sink, await self._clock(connection)):
                return 0
        async with self._database.write() as connection:
            now_ms = await self._clock(connection)
            until_ms = now_ms + int(CLAIM_SECONDS * 1000)
            claims = await claim(
                connection, sink, self._holder, at_most=CLAIM_MAX_NOTICES, now_ms=now_ms, until_ms=until_ms
            )
        errors = await asyncio.gather(*(self._try(one) for one in claims))
        if claims:
            await self._write_down(claims, errors)
        return len(claims)

    async def _try(self, one: Claim) -> str | None:
        """What went wrong, if anything."""
        try:
            async with asyncio.timeout(SINK_TIMEOUT_SECONDS):
                await self._sink.notify(one.notice)
        except TimeoutError:
            return f"not taken within {SINK_TIMEOUT_SECONDS:g} s"
        except Exception as error:  # a sink may fail in any way; the notice is tried again
            return _first_line(error)
        return None

    async def _write_down(self, claims: list[Claim], errors: list[str | None]) -> None:
        async with self._database.write() as connection:
            now_ms = await self._clock(connection)
            for one, error in zip(claims, errors, strict=True):
                if error is None:
                    held = await settle(connection, one, now_ms=now_ms, repeat_at_ms=now_ms + self._repeat_ms)
                else:
                    wait_ms = int(self._wait_seconds(one.failures) * 1000)
                    held = await put_off(connection, one, error=error, next_attempt_at_ms=now_ms + wait_ms)
                    log.warning("alarm not taken", sink=one.sink, alarm=one.notice.name, error=error)
                if not held:
                    log.warning("alarm told for longer than its claim", sink=one.sink, alarm=one.notice.name)

    def _wait_seconds(self, failures: int) -> float:
        """Doubles with each failure in a row, which the table counts, so that it also grows across restarts."""
        bound = min(RETRY_FIRST_SECONDS * 2.0 ** min(failures, 60), RETRY_MAX_SECONDS)
        backoff = Backoff(bound, RETRY_MAX_SECONDS)
        if self._random is not None:
            backoff.source = self._random
        return backoff.next_seconds()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
