"""A real PostgreSQL as tests see it: a fresh database in milliseconds, and the means to break the server.

Invariant: every call is bounded and blocks; what it does runs on a thread and an event loop of its own, so it can be
called inside a running event loop as well (through `asyncio.to_thread` where the loop must go on meanwhile).
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from streams.storage.database import Database
from streams.storage.migrate import upgrade
from tests.services.required import leave_test

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Postgres"]

ANSWER_SECONDS = 30.0


class Postgres:
    """A server somewhere on which databases may be created. What only its owner can do skips the test.

    Args:
        url: `postgresql+asyncpg://user:password@host:port/database`, a database to connect to for making others.
        described: for the line at the end of a test run; the server's version is put before it.
    """

    def __init__(self, url: str, described: str) -> None:
        self.url = url
        self._where = described
        self._mark = f"payday_test_{secrets.token_hex(4)}"
        self._made = 0
        self._template: str | None = None
        self._connection: asyncpg.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._runner: asyncio.Runner | None = None
        self._version = "of unknown version"

    @property
    def described(self) -> str:
        """What the tests ran on."""
        return f"PostgreSQL {self._version} ({self._where})"

    def connect(self) -> None:
        """Ask the server for its version.

        Raises:
            OSError, asyncpg.PostgresError: it does not answer.
        """
        self._version = str(self._run(self._ask("SHOW server_version"))).split(maxsplit=1)[0]

    def fresh_database(self, *, migrated: bool = True) -> str:
        """Make a database; its URL.

        Args:
            migrated: with this version's tables, by copying a template that the migrations have made once.
        """
        if migrated and self._template is None:
            self._template = self._make_template()
        self._made += 1
        name = f"{self._mark}_{self._made}"
        source = self._template if migrated else "template0"
        # Either strategy takes about the same, 13 and 14 ms measured with the data in memory.
        self._run(self._tell(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY'))
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that `fresh_database` made, whoever is still connected to it."""
        self._run(self._tell(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)'))

    def close(self) -> None:
        """Drop what is left of the databases made here, and disconnect."""
        if self._thread is None:
            return
        self._run(self._drop_all())
        self.disconnect()

    def disconnect(self) -> None:
        """Give up the connection and its thread; the next call makes them anew."""
        if self._thread is None or self._runner is None:
            return
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._thread.submit(self._runner.close).result(ANSWER_SECONDS)
        self._thread.shutdown()
        self._thread = self._runner = None

    def kill(self) -> None:
        """SIGKILL to the whole server."""
        leave_test("killing PostgreSQL", self.described)

    def freeze(self) -> None:
        """SIGSTOP to the whole server: its connections stay and nothing is answered."""
        leave_test("freezing PostgreSQL", self.described)

    def thaw(self) -> None:
        """SIGCONT to the whole server."""
        leave_test("thawing PostgreSQL", self.described)

    def restart(self) -> None:
        """Start a server that was killed or stopped on its old data and address; one that runs is stopped first."""
        leave_test("restarting PostgreSQL", self.described)

    def stop(self) -> None:
        """End the server in order: transactions that are open are rolled back."""
        leave_test("stopping PostgreSQL", self.described)

    def _url_of(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    def _make_template(self) -> str:
        name = f"{self._mark}_template"
        self._run(self._tell(f'CREATE DATABASE "{name}" TEMPLATE template0'))
        try:
            self._run(_migrate(self._url_of(name)))
        except BaseException:
            self._run(self._tell(f'DROP DATABASE "{name}" WITH (FORCE)'))
            raise
        return name

    def _run(self, job: Coroutine[Any, Any, Any]) -> Any:
        if self._thread is None or self._runner is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="postgres")
            self._runner = asyncio.Runner()
        return self._thread.submit(self._runner.run, asyncio.wait_for(job, ANSWER_SECONDS)).result()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            url = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = await asyncpg.connect(url)
        return self._connection

    async def _ask(self, sql: str) -> Any:
        return await (await self._connected()).fetchval(sql)

    async def _tell(self, sql: str) -> None:
        await (await self._connected()).execute(sql)

    async def _drop_all(self) -> None:
        connection = await self._connected()
        for row in await connection.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", self._mark):
            with suppress(asyncpg.InvalidCatalogNameError):
                await connection.execute(f'DROP DATABASE "{row["datname"]}" WITH (FORCE)')


async def _migrate(url: str) -> None:
    database = Database(url)
    try:
        await upgrade(database)
    finally:
        await database.close()
