"""What PostgreSQL's errors mean: contention is redone, an outage is waited for, and neither is a record's fault."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from streams.intake.classify import Kind, classify
from streams.storage.database import Database
from streams.storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, is_contention
from streams.storage.postgresql import PostgresqlLimits
from tests.conformance.conftest import administer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.services.postgres_local import LocalPostgres

DATABASES = ("postgresql",)
LOCK_BOOK = text("SELECT 1 FROM ledger_book FOR UPDATE")


class Proxy:
    """Stands between client and server, so that a network can fail."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._open = asyncio.Event()
        self._open.set()

    async def start(self) -> URL:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._url.set(host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    def freeze(self) -> None:
        """Nothing arrives any more, and nobody says so."""
        self._open.clear()

    def cut(self) -> None:
        """Every connection is reset."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._url.host, self._url.port)
        self._writers += (writer, far_writer)
        for pair in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pipe(*pair)))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """In front of the test's database."""
    proxy = Proxy(make_url(database_url))
    yield proxy
    await proxy.close()


def opened(url: URL | str, **limits: float) -> Database:
    text_url = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return Database(text_url, postgresql=PostgresqlLimits(**limits))  # type: ignore[arg-type]  # seconds, all of them


async def backend(connection: AsyncConnection) -> int:
    """The number of the server's process for this connection."""
    number: int = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return number


async def until_gone(database: Database, number: int) -> None:
    async with asyncio.timeout(10):
        while True:
            async with database.write() as connection:
                sql = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
                if (await connection.execute(sql, {"pid": number})).scalar_one() == 0:
                    return


async def until_waiting(database: Database, transactions: int = 1) -> None:
    """Until so many transactions in this database wait for locks."""
    async with asyncio.timeout(10):
        while True:
            async with database.write() as connection:
                sql = text(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if (await connection.execute(sql)).scalar_one() >= transactions:
                    return


# --- contention ---------------------------------------------------------------------------------------------------


async def test_a_lock_that_is_never_released_is_contention(database_url: str, database: Database) -> None:
    """After the lock time-out the transaction may be redone (55P03)."""
    impatient = opened(database_url, lock_timeout_seconds=0.05)
    async with database.write() as connection:
        await connection.execute(LOCK_BOOK)
        with pytest.raises(DBAPIError) as caught:
            async with impatient.write() as waiting:
                await waiting.execute(LOCK_BOOK)
    assert is_contention(caught.value)
    await impatient.close()


async def test_a_deadlock_is_contention(database: Database, other_database: Database) -> None:
    """One of the two is ended and may be redone, the other goes through (40P01)."""
    async with database.write() as connection:
        sql = "INSERT INTO ledger_account (worker_id, balance_minor, version) VALUES ('a', 0, 0), ('b', 0, 0)"
        await connection.execute(text(sql))
    both_have_one = asyncio.Barrier(2)

    async def lock(through: Database, first: str, second: str) -> None:
        async with through.write() as connection:
            await connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            wanted = text("SELECT 1 FROM ledger_account WHERE worker_id = :w FOR UPDATE")
            await connection.execute(wanted, {"w": first})
            await both_have_one.wait()
            await connection.execute(wanted, {"w": second})

    results = await asyncio.gather(lock(database, "a", "b"), lock(other_database, "b", "a"), return_exceptions=True)
    (error,) = [one for one in results if one is not None]
    assert is_contention(error)


async def test_a_serialisation_failure_is_contention(database: Database, other_database: Database) -> None:
    """Somebody changed the row that a stricter transaction had seen (40001)."""
    change = text("UPDATE ledger_book SET closed_through = '2026-01-01'")

    async def transact() -> None:
        async with database.write() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            await connection.execute(text("SELECT closed_through FROM ledger_book"))
            async with other_database.write() as other:
                await other.execute(change)
            await connection.execute(change)

    with pytest.raises(DBAPIError) as caught:
        await transact()
    assert is_contention(caught.value)


async def test_a_statement_that_takes_too_long_is_contention(database_url: str) -> None:
    """It blames no record: it is redone, and when that does not help intake pauses (57014)."""
    hasty = opened(database_url, statement_timeout_seconds=0.05)
    with pytest.raises(DBAPIError) as caught:
        async with hasty.write() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))
    assert is_contention(caught.value)
    await hasty.close()


async def test_no_free_connection_is_contention(database_url: str) -> None:
    """A pool that is used up for too long says so, and nothing hangs."""
    narrow = opened(database_url, writers=1, pool_timeout_seconds=0.05)
    async with narrow.write() as connection:
        await connection.execute(text("SELECT 1"))
        with pytest.raises(DatabaseBusy, match="is in use") as caught:
            async with narrow.write():
                pass
    assert is_contention(caught.value)
    await narrow.close()


# --- outages ------------------------------------------------------------------------------------------------------


async def test_a_connection_that_the_server_ends_is_an_outage(database: Database, other_database: Database) -> None:
    """A restart or an administrator: what is under way fails as an outage, and the next transaction goes (57P01)."""

    async def transact() -> None:
        async with database.write() as connection:
            number = await backend(connection)
            async with other_database.write() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": number})
            await until_gone(other_database, number)
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await transact()
    await database.probe_write()


async def test_every_pooled_connection_may_be_dead(database: Database, other_database: Database) -> None:
    """After a restart of the server the pool is mended without an error: connections are looked at when taken."""
    async with database.write() as connection:
        number = await backend(connection)
    async with other_database.write() as other:
        await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": number})
    await until_gone(other_database, number)
    async with database.write() as connection:
        assert await backend(connection) != number


async def test_a_transaction_that_does_nothing_is_ended(database_url: str, other_database: Database) -> None:
    """A frozen process does not hold its locks for ever; when it wakes it finds an outage (25P03)."""
    frozen = opened(database_url, idle_in_transaction_timeout_seconds=0.05)

    async def transact() -> None:
        async with frozen.write() as connection:
            number = await backend(connection)
            await connection.execute(LOCK_BOOK)
            async with other_database.write() as other:
                await other.execute(LOCK_BOOK)
            await until_gone(other_database, number)
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await transact()
    await frozen.close()


async def test_a_refused_connection_is_an_outage(proxy: Proxy) -> None:
    """The server is down."""
    url = await proxy.start()
    await proxy.close()
    down = opened(url)
    for attempt in (down.probe, down.probe_write):
        with pytest.raises(DatabaseUnavailable):
            await attempt()
    assert await classify(ValueError("whatever else"), down) is Kind.OUTAGE
    await down.close()


async def test_a_connection_that_is_reset_is_an_outage(proxy: Proxy) -> None:
    """Also in the middle of a statement, where the driver reports what the operating system says."""
    through = opened(await proxy.start())

    async def transact() -> None:
        async with through.write() as connection:
            await connection.execute(text("SELECT 1"))
            asyncio.get_running_loop().call_later(0.05, proxy.cut)
            await connection.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(DatabaseUnavailable):
        await transact()
    await through.probe_write()
    await through.close()


async def test_a_server_that_has_vanished_is_an_outage(proxy: Proxy) -> None:
    """No answer and no reset: the client stops waiting by itself, for a statement and for a new connection."""
    limits = {"statement_timeout_seconds": 0.1, "answer_grace_seconds": 0.1, "connect_timeout_seconds": 0.2}
    url = await proxy.start()
    through = opened(url, **limits)

    async def transact() -> None:
        async with through.write() as connection:
            await connection.execute(text("SELECT 1"))
            proxy.freeze()
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await transact()
    with pytest.raises(DatabaseUnavailable):
        await through.probe_write()
    proxy.cut()
    await through.close()


async def test_too_many_connections_is_an_outage(database_url: str, postgresql_server: URL) -> None:
    """The server is full: somebody must make room, and no record is to blame (53300)."""
    role = f"narrow_{uuid4().hex}"
    await administer(postgresql_server, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD '{role}'")
    full = opened(make_url(database_url).set(username=role, password=role))
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        async with full.write() as connection:
            await connection.execute(text("SELECT 1"))
    await full.close()
    await administer(postgresql_server, f"DROP ROLE {role}")


@pytest.mark.parametrize("change", [{"database": "absent"}, {"username": "absent"}], ids=["no database", "no login"])
async def test_a_wrong_address_is_an_outage(change: dict[str, str], database_url: str) -> None:
    """Nothing can be handled until somebody puts it right, and nothing is parked meanwhile (3D000, 28000)."""
    wrong = opened(make_url(database_url).set(**change))  # type: ignore[arg-type]  # parts of a URL
    with pytest.raises(DatabaseUnavailable):
        async with wrong.write() as connection:
            await connection.execute(text("SELECT 1"))
    await wrong.close()


async def test_a_database_that_may_only_be_read_says_so(
    database_url: str, postgresql_server: URL, open_database: Callable[[], Database]
) -> None:
    """A standby, or one that was set read-only: the probe finds it as well as a change does (25006)."""
    name = make_url(database_url).database
    await administer(postgresql_server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = open_database()
    with pytest.raises(DatabaseReadOnly):
        await database.probe_write()
    with pytest.raises(DatabaseReadOnly):
        async with database.write() as connection:
            await connection.execute(LOCK_BOOK)
    await database.probe()


async def test_a_killed_server_is_an_outage_until_it_is_back(own_postgres: LocalPostgres) -> None:
    """What was committed is there again, what was under way is not, and nothing else is needed to go on."""
    url = await asyncio.to_thread(own_postgres.fresh_database)
    database = Database(url)
    change = text("UPDATE ledger_book SET closed_through = :day")

    async def close(day: str, *, kill: bool) -> None:
        async with database.write() as connection:
            await connection.execute(change, {"day": day})
            if kill:
                await asyncio.to_thread(own_postgres.kill)

    await close("2026-01-01", kill=False)
    with pytest.raises(DatabaseUnavailable):
        await close("2026-01-02", kill=True)
    assert await classify(ValueError("whatever else"), database) is Kind.OUTAGE
    await asyncio.to_thread(own_postgres.restart)
    await database.probe_write()
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT closed_through FROM ledger_book"))).scalar_one() == "2026-01-01"
    await database.close()
