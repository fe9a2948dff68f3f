"""What all tests share: a fresh SQLite database in milliseconds, and the services of `tests/services`."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.app import ALL_METADATA
from streams.storage.database import Database
from streams.storage.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

assert ALL_METADATA, "importing the app registers every table"

pytest_plugins = [
    "tests.services.fixtures",  # a real Kafka and a real PostgreSQL, for the tests that ask
    "tests.workers",  # how tests are shared among processes
]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with every table, made once; tests copy it."""
    path = tmp_path_factory.mktemp("template") / "payday.db"

    async def make() -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        await upgrade(database)
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
def database_file(migrated_file: Path, tmp_path: Path) -> Path:
    """A fresh SQLite file with every table."""
    return Path(shutil.copy(migrated_file, tmp_path / "payday.db"))


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    """A fresh database with every table."""
    database = Database(f"sqlite+aiosqlite:///{database_file}")
    yield database
    await database.close()
