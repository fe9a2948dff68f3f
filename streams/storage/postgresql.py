"""PostgreSQL: two pools on one database, and a bound on everything that a connection can wait for.

Writers run READ COMMITTED: each statement sees what was committed before it, so that "lock, then read in a second
statement" works, and a compare-and-set that had to wait looks again. Readers run REPEATABLE READ and read-only: all
statements of one look see one state. The pools are apart so that reports never keep a batch waiting for a connection.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from streams.storage.errors import DatabaseReadOnly, DatabaseUnavailable, DriverMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import ExceptionContext
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Postgresql", "PostgresqlLimits"]

APPLICATION_NAME = "payday"


@dataclass(frozen=True, slots=True)
class PostgresqlLimits:
    """How long and how much.

    Attributes:
        writers: connections for transactions that write: a batch per group, the relay, the workers.
        readers: connections for looks; one of them listens for the outbox.
        pool_timeout_seconds: waiting for one of these.
        connect_timeout_seconds: waiting for the server to answer a new connection.
        lock_timeout_seconds: waiting for a lock. Shorter than the budget for redoing a transaction, so that it is
            redone at least once.
        statement_timeout_seconds: one statement of a write transaction.
        read_statement_timeout_seconds: one statement of a look; an audit of a large ledger takes its time.
        answer_grace_seconds: how much longer the client waits than the server may take, because a server that has
            vanished ends nothing by itself.
        idle_in_transaction_timeout_seconds: an open transaction that does nothing. It is what a frozen process costs
            the others: the server ends it, and with it its locks.
        keepalive_idle_seconds, keepalive_interval_seconds, keepalives: after this silence the server asks so often
            whether the client's machine is there, and then ends what it had open.
    """

    writers: int = 6
    readers: int = 5
    pool_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 5.0
    lock_timeout_seconds: float = 3.0
    statement_timeout_seconds: float = 60.0
    read_statement_timeout_seconds: float = 600.0
    answer_grace_seconds: float = 5.0
    idle_in_transaction_timeout_seconds: float = 30.0
    keepalive_idle_seconds: int = 30
    keepalive_interval_seconds: int = 10
    keepalives: int = 3


class Postgresql:
    """The pools of one database, and how their transactions begin.

    Args:
        url: of the database.
        limits: see there.

    Raises:
        DriverMissing: asyncpg is not installed.
    """

    def __init__(self, url: URL, limits: PostgresqlLimits) -> None:
        self._described = url.render_as_string(hide_password=True)
        self._limits = limits
        self.writer = self._engine(
            url, limits.writers, limits.statement_timeout_seconds, isolation_level="READ COMMITTED"
        )
        self.reader = self._engine(
            url,
            limits.readers,
            limits.read_statement_timeout_seconds,
            {"default_transaction_read_only": "on"},
            isolation_level="REPEATABLE READ",
        )

    def turn_to_write(self) -> AbstractAsyncContextManager[None]:
        """Writers do not wait for each other; rows do."""
        return nullcontext()

    async def begin_writing(self, connection: AsyncConnection) -> None:
        """The driver begins with the first statement."""

    async def begin_reading(self, connection: AsyncConnection) -> None:
        """The driver begins with the first statement."""

    async def try_writing(self, connection: AsyncConnection) -> None:
        """Ask whether a change would be refused: a standby, or a database that was set read-only.

        Raises:
            DatabaseReadOnly: it would.
        """
        if (await connection.exec_driver_sql("SHOW transaction_read_only")).scalar_one() == "on":
            raise DatabaseReadOnly(f"{self._described} is read-only")

    def _engine(
        self,
        url: URL,
        connections: int,
        statement_timeout_seconds: float,
        more_settings: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> AsyncEngine:
        limits = self._limits
        settings = {
            "application_name": APPLICATION_NAME,
            "statement_timeout": _ms(statement_timeout_seconds),
            "lock_timeout": _ms(limits.lock_timeout_seconds),
            "idle_in_transaction_session_timeout": _ms(limits.idle_in_transaction_timeout_seconds),
            "tcp_keepalives_idle": str(limits.keepalive_idle_seconds),
            "tcp_keepalives_interval": str(limits.keepalive_interval_seconds),
            "tcp_keepalives_count": str(limits.keepalives),
            "jit": "off",  # it compiles for longer than these statements run
            **more_settings,
        }
        try:
            engine = create_async_engine(
                url,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=limits.pool_timeout_seconds,
                pool_pre_ping=True,
                connect_args={
                    "timeout": limits.connect_timeout_seconds,
                    "command_timeout": statement_timeout_seconds + limits.answer_grace_seconds,
                    "server_settings": settings,
                },
                **options,
            )
        except ModuleNotFoundError as error:
            raise DriverMissing(
                f"PostgreSQL needs the driver {error.name}, which is not installed: pip install 'payday[postgresql]'"
            ) from error
        event.listen(engine.sync_engine, "handle_error", self._network_is_no_callers_error)
        return engine

    def _network_is_no_callers_error(self, context: ExceptionContext) -> None:
        """Name an outage where it happens: asyncpg lets the operating system's errors through as they are.

        Farther out they could not be told from an OSError of the caller's own block.
        """
        error = context.original_exception
        if isinstance(error, OSError):  # a time-out, too, is one
            context.is_disconnect = True
            raise DatabaseUnavailable(
                f"{self._described} does not answer: {str(error) or type(error).__name__}"
            ) from error


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
