"""A deployment's payouts without Kafka: accounts that earn, runs, workers, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update

from streams.catalog import ContractCatalog
from streams.inspection.audit import audit
from streams.ledger.domain import Account, BusinessCalendar, Posting, book_posting
from streams.ledger.store import insert_transfers, share_book
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.outbox.envelope import Cause
from streams.outbox.headers import unpack
from streams.outbox.tables import outbox
from streams.payouts.announcer import Announcer
from streams.payouts.domain import Trigger
from streams.payouts.reserve import Reserver
from streams.payouts.runs import Runs
from streams.payouts.tables import payout
from streams.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

CALENDAR = BusinessCalendar(ZoneInfo("UTC"), "USD", 300)
TODAY = datetime.now(UTC).date()
P1, P2 = TODAY - timedelta(days=2), TODAY - timedelta(days=1)
"""Two days that are over."""
DAY_MS = 86_400_000


def worker(number: int) -> str:
    """A worker's id; they sort by number."""
    return f"{number:08x}-0000-4000-8000-000000000000"


@dataclass
class World:
    """One process' view of a deployment."""

    database: Database
    holder: str = "one"
    chunk_accounts: int | None = None
    _numbers: Iterable[int] = field(default_factory=lambda: iter(range(10**9)))

    def __post_init__(self) -> None:
        self.announce = Announcer(ContractCatalog(), "")
        self.runs = Runs(self.database, CALENDAR, self.announce, accounting_group="payday.accounting")
        self.reserver = Reserver(
            self.database,
            self.runs,
            CALENDAR,
            self.announce,
            holder=self.holder,
            chunk_accounts=self.chunk_accounts,
        )

    def another(self, holder: str = "two") -> World:
        """The same deployment seen from another process: connections of its own."""
        return World(Database(self.database.url.render_as_string(hide_password=False)), holder, self.chunk_accounts)

    async def open_accounts(self, count: int, amount_minor: int | Callable[[int], int] = 1000, day: date = P1) -> None:
        """Workers 0 to count - 1 have earned something, as one transaction would have written it."""
        accounts, transfers = [], []
        book = await self._book()
        amount_of = amount_minor if callable(amount_minor) else lambda _number: amount_minor
        for number in range(count):
            booked = book_posting(
                Account(worker(number)),
                Posting(worker(number), "adjustment", amount_of(number), f"adjustment:opening-{number}"),
                _cause(f"opening-{number}", day),
                CALENDAR,
                book,
            )
            accounts.append(booked.account)
            transfers.append(booked.transfer)
        async with self.database.write() as connection:
            await connection.execute(
                insert(ledger_account),
                [
                    {"worker_id": one.worker_id, "balance_minor": one.balance_minor, "version": one.version}
                    for one in accounts
                ],
            )
            await insert_transfers(connection, transfers, 1)

    async def _book(self) -> Any:
        async with self.database.write() as connection:
            return await share_book(connection)

    async def earn(
        self,
        number: int,
        amount_minor: int,
        day: date = P1,
        ref: str | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """One posting, as the accounting slice makes it; `before_commit` is awaited while it holds its locks."""
        name = ref or f"{number}-{next(self._numbers)}-{self.holder}"  # type: ignore[call-overload]
        async with self.database.write() as connection:
            book = await share_book(connection)
            row = (
                await connection.execute(
                    select(ledger_account).where(ledger_account.c.worker_id == worker(number)).with_for_update()
                )
            ).first()
            account = Account(worker(number))
            if row is not None:
                account = Account(row.worker_id, row.balance_minor, row.version, row.version)
            posting = Posting(worker(number), "adjustment", amount_minor, f"adjustment:{name}")
            booked = book_posting(account, posting, _cause(name, day), CALENDAR, book)
            after = {"balance_minor": booked.account.balance_minor, "version": booked.account.version}
            if row is None:
                await connection.execute(insert(ledger_account).values(worker_id=worker(number), **after))
            else:
                same = ledger_account.c.worker_id == worker(number)
                await connection.execute(update(ledger_account).where(same).values(**after))
            await insert_transfers(connection, [booked.transfer], 1)
            if before_commit is not None:
                await before_commit()

    async def pay_out(self, period: date = P1, trigger: Trigger = Trigger.CLI) -> None:
        """Register a run and reserve it."""
        await self.runs.register(period, trigger)
        await self.reserver.run_until_idle()

    async def rows(self, table: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(table)))

    async def payouts(self) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(payout).order_by(payout.c.worker_id, payout.c.seq)))

    async def balances(self) -> dict[str, int]:
        return {row.worker_id: row.balance_minor for row in await self.rows(ledger_account)}

    async def events(self, type_name: str = "") -> list[tuple[str, Mapping[str, str], bytes]]:
        """What the outbox holds, in order: type, headers, body."""
        rows = [row for row in await self.rows(outbox) if type_name in row.type]
        return [
            (row.type, {name: (value or b"").decode() for name, value in unpack(row.headers)}, row.value)
            for row in sorted(rows, key=lambda row: row.id)
        ]

    async def closing(self, period: date) -> dict[str, int]:
        """What each account was owed at a day's close, recomputed from the transfers, payouts left out."""
        sums: dict[str, int] = {}
        for row in await self.rows(ledger_transfer):
            if row.worker_id is not None and row.kind != "payout" and row.period <= period.isoformat():
                sums[row.worker_id] = sums.get(row.worker_id, 0) + row.signed_minor
        return sums

    async def assert_sound(self) -> None:
        """The audit finds nothing."""
        result = await audit(self.database, settled=False)
        assert result.ok, [finding for finding in result.findings if finding.rows]


def _cause(name: str, day: date) -> Cause:
    noon = round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    return Cause(name, "test", "t", noon, None, name, None, noon)
