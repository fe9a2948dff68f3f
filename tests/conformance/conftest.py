"""Fresh databases of both kinds for every test; a module whose `DATABASES` names one kind runs on that kind alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from streams.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy.engine import URL

    from tests.services.postgres import Postgres

BOTH = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", getattr(metafunc.module, "DATABASES", BOTH))


@pytest.fixture
def postgresql_server(postgres: Postgres) -> URL:
    """The server of this test run, whose user may create databases."""
    return make_url(postgres.url)


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest) -> str:
    """A fresh database with every table."""
    if kind == "sqlite":
        file: Path = request.getfixturevalue("database_file")
        return f"sqlite+aiosqlite:///{file}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def open_database(database_url: str) -> AsyncIterator[Callable[[], Database]]:
    """Opens the test's database once more, as another process would."""
    opened: list[Database] = []

    def open_it() -> Database:
        opened.append(Database(database_url))
        return opened[-1]

    yield open_it
    for one in opened:
        await one.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    """The test's database."""
    return open_database()


@pytest.fixture
def other_database(open_database: Callable[[], Database]) -> Database:
    """The test's database as another process sees it."""
    return open_database()


async def administer(server: URL, statement: str) -> None:
    """Run a statement on the server itself, outside any transaction."""
    import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415  only where there is a server

    connection = await asyncpg.connect(server.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
