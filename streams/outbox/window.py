"""What the relay reads next, and what it leaves alone because it was refused.

Invariants: a held row keeps only its own key back, a held topic only itself, and neither takes room in what is read;
of a key with many rows no more are read than are wanted; what is loaded already is not read again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.outbox.store import (
    Attempt,
    Selection,
    earliest_held,
    row_if_due,
    topics_waiting,
    unsent_rows,
)
from streams.outbox.verdict import Verdict
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.outbox.producer import KeyedPublisher, Refusal
    from streams.outbox.store import UnsentRow

__all__ = ["REFUSED_FIRST_WAIT_SECONDS", "REFUSED_MAX_WAIT_SECONDS", "Window", "refused_wait_seconds"]

WINDOW_MAX_ROWS = 2000
WINDOW_MAX_BYTES = 16_000_000
"""A look that brought more bytes than this makes the next ones smaller."""
FIRST_ROWS = 250
TOPIC_MIN_ROWS = 50
REFUSED_FIRST_WAIT_SECONDS, REFUSED_MAX_WAIT_SECONDS = 1.0, 3600.0


@dataclass(frozen=True, slots=True)
class Hold:
    """The row whose next attempt shows whether its topic takes anything again."""

    row_id: int
    lane: int


def refused_wait_seconds(attempts: int, source: random.Random | None = None) -> float:
    """How long a row that was refused once more waits: 1 s doubling to 1 h, spread over the upper half.

    Args:
        attempts: how often it was refused before.
        source: of chance.
    """
    bound = min(REFUSED_FIRST_WAIT_SECONDS * 2.0 ** min(attempts, 60), REFUSED_MAX_WAIT_SECONDS)
    backoff = Backoff(bound, REFUSED_MAX_WAIT_SECONDS)
    if source is not None:
        backoff.source = source
    return backoff.next_seconds()


class Window:
    """Looks into the outbox for one relay.

    Args:
        source: of chance, for the waits.
    """

    def __init__(self, source: random.Random | None = None) -> None:
        self._source = source
        self._holds: dict[str, Hold] = {}
        self._rows = FIRST_ROWS

    @property
    def held_topics(self) -> Collection[str]:
        """Topics that were refused as a whole."""
        return self._holds.keys()

    async def read(
        self, connection: AsyncConnection, publisher: KeyedPublisher, lanes: Collection[int], *, probing: bool
    ) -> list[UnsentRow]:
        """Unsent rows of these lanes that may be published now and are not loaded yet, fairly from every topic.

        Args:
            connection: to read.
            publisher: knows what is loaded.
            lanes: that this instance holds.
            probing: the breaker wants one row to find out whether the broker is back: if none is due, the one that
                would be tried next is taken before its time.
        """
        now_ms = await database_time_ms(connection)
        topics = await topics_waiting(connection)
        rows, held = await self._held(connection, publisher, lanes, now_ms)
        free = [topic for topic in topics if topic not in held]
        at_most = max(TOPIC_MIN_ROWS, self._rows // max(1, len(free)))
        for topic in free:
            selection = Selection(topic, at_most, now_ms, lanes, publisher.loaded_ids, publisher.crowded_keys(topic))
            rows += await unsent_rows(connection, at_most, selection)
        self._adapt(rows)
        if not rows and probing and publisher.loaded == 0:
            early = await earliest_held(connection, lanes)
            return [early] if early is not None else []
        return rows

    async def _held(
        self, connection: AsyncConnection, publisher: KeyedPublisher, lanes: Collection[int], now_ms: int
    ) -> tuple[list[UnsentRow], set[str]]:
        """Of each held topic the one row that is tried, if its time has come; and the topics that are held still."""
        rows = []
        for topic, hold in list(self._holds.items()):
            unsent, row = await row_if_due(connection, hold.row_id, now_ms)
            if not unsent or hold.lane not in lanes:  # sent or removed by somebody else, or no longer ours to try
                del self._holds[topic]
            elif row is not None and row.id not in publisher.loaded_ids:
                rows.append(row)
        return rows, set(self._holds)

    def _adapt(self, rows: list[UnsentRow]) -> None:
        size = sum(row.size for row in rows)
        if size > WINDOW_MAX_BYTES:
            self._rows = max(1, self._rows // 2)
        elif size < WINDOW_MAX_BYTES // 2:
            self._rows = min(WINDOW_MAX_ROWS, self._rows * 2)

    def acknowledged(self, ids: Collection[int]) -> None:
        """A row that held its topic and went through opens it again."""
        if self._holds:
            went_through = set(ids)
            self._holds = {topic: hold for topic, hold in self._holds.items() if hold.row_id not in went_through}

    def refused(self, refusals: Iterable[Refusal], publisher: KeyedPublisher, now_ms: int) -> list[Attempt]:
        """Hold what was refused; what was merely not answered is tried again as soon as the breaker lets it.

        Returns:
            What is to be written down: one attempt for each refused row, one for a refused topic.
        """
        attempts = []
        for refusal in sorted(refusals, key=lambda one: one.row.id):
            row = refusal.row
            if refusal.verdict is Verdict.TOPIC:
                if self._holds.setdefault(row.topic, Hold(row.id, row.lane)).row_id != row.id:
                    continue
                publisher.drop(lambda one, topic=row.topic: one.topic == topic)  # type: ignore[misc]
            elif refusal.verdict is not Verdict.ROW:
                continue
            wait_ms = round(refused_wait_seconds(row.attempts, self._source) * 1000)
            attempts.append(Attempt(row.id, now_ms + wait_ms, refusal.error))
        return attempts
