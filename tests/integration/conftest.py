"""Grounds: what the tests of a small app run on, a broker and a database."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from tests.integration.notes_app import EmbeddedNotesBroker, NotesBroker, RealNotesBroker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.services.postgres import Postgres


@dataclass(frozen=True, slots=True)
class Ground:
    """A broker and a fresh database.

    Attributes:
        broker: with the app's topic.
        database_url: of the database.
        outage: keeps everybody else out of the database for as long as its block lasts.
    """

    broker: NotesBroker
    database_url: str
    outage: Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture(params=["embedded-sqlite", "kafka-postgresql"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Each test that asks runs on the embedded broker with SQLite, and on Kafka with PostgreSQL."""
    if request.param == "kafka-postgresql":
        yield _real_ground(request)
        return
    file: Path = request.getfixturevalue("database_file")
    broker = EmbeddedNotesBroker()
    yield Ground(broker, f"sqlite+aiosqlite:///{file}", lambda: _locked_file(file))
    broker.stop()


def _real_ground(request: pytest.FixtureRequest) -> Ground:
    broker = RealNotesBroker(request.getfixturevalue("kafka"), request.getfixturevalue("kafka_prefix"))
    url: str = request.getfixturevalue("postgres_url")
    server: Postgres = request.getfixturevalue("postgres")
    return Ground(broker, url, lambda: _closed_database(server.url, url))


@asynccontextmanager
async def _locked_file(file: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)) as blocker:
        # In a thread: the app's own transaction can only end while this loop runs.
        await asyncio.to_thread(blocker.execute, "BEGIN EXCLUSIVE")
        yield
        blocker.execute("ROLLBACK")


@asynccontextmanager
async def _closed_database(server_url: str, url: str) -> AsyncIterator[None]:
    """End every connection, and take no new one."""
    name = make_url(url).database
    server = await asyncpg.connect(make_url(server_url).set(drivername="postgresql").render_as_string(False))
    try:
        await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await asyncio.wait_for(server.close(), 5)
