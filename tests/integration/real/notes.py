"""What the tests of the small app on a real Kafka send, and what must have become of it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.integration.notes_app import NotesSender
from tests.kit import GROUP, TOPIC, rows

if TYPE_CHECKING:
    from tests.integration.notes_app import NotesApp, NotesBroker
    from tests.services.kafka import Kafka

KEYS = tuple(f"key-{number}" for number in range(12))
"""Enough of them that each of the four partitions has some."""


class Traffic:
    """Numbered notes of several keys, each with an id of its own, sent whether an app runs or not."""

    def __init__(self, broker: NotesBroker) -> None:
        self.count = 0
        self._sender = NotesSender(broker)

    def send(self, count: int) -> None:
        """Send the next so many, over all keys in turn."""
        of_key: dict[str, list[str]] = defaultdict(list)
        for number in range(self.count, self.count + count):
            of_key[self.key(number)].append(str(number))
        for key, texts in of_key.items():
            self._sender.send(*texts, key=key.encode(), message_ids=[f"id-{text}" for text in texts])
        self.count += count

    @staticmethod
    def key(number: int) -> str:
        """The key of a note."""
        return KEYS[number % len(KEYS)]

    async def assert_exact(self, app: NotesApp, *, without: frozenset[int] = frozenset()) -> None:
        """Each note has had its effect once, in the order of its key; those `without` have had none."""
        emitted: dict[str, list[int]] = defaultdict(list)
        for key, value in await rows(app.database, "SELECT key, value FROM outbox ORDER BY id"):
            emitted[bytes(key).decode()].append(int(json.loads(bytes(value))["text"]))
        expected: dict[str, list[int]] = defaultdict(list)
        for number in range(self.count):
            if number not in without:
                expected[self.key(number)].append(number)
        assert emitted == expected
        counts = await app.counts()
        assert counts["handled"] == self.count - len(without)
        assert counts["consumed"] == counts["handled"] + counts["duplicate"]
        assert (counts["parked"], counts["lost"], counts["skipped"]) == (0, len(without), 0)

    async def assert_at_the_end(self, app: NotesApp, kafka: Kafka) -> None:
        """The group's committed offsets come to the log's ends, and `progress` is there."""
        topic = app.broker.prefix + TOPIC
        ends = {place: end for place, (_, end) in (await asyncio.to_thread(kafka.watermarks, topic)).items() if end > 0}

        async def arrived() -> bool:
            return await asyncio.to_thread(kafka.committed, app.broker.prefix + GROUP) == ends

        await app.until(arrived)
        found = await rows(app.database, "SELECT topic, partition, next_offset FROM progress")
        assert {(name, partition): offset for name, partition, offset in found} == ends
