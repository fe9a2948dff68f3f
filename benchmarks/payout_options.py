"""Ways to pay everybody out with two instances, tried on one PostgreSQL: what each pays twice, loses, or leaves unpaid.

    python -m benchmarks.payout_options [--accounts 5000]

Each way is written as it usually is, with two instances and somebody who credits accounts meanwhile. Counted
afterwards: accounts that were paid their opening balance more than once, money that is in no book or in two, accounts
that nobody paid, and payouts a second. The last line is this project's reserving, with ledger and events; the others
only change a balance and insert a row. The server keeps its data in memory and does not wait for a disk, so the rates
compare the ways with each other and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from streams.payouts.domain import RunStatus, Trigger
from streams.storage.database import Database
from tests.services.services import Services
from tests.unit.payouts.world import P1, P2, World

if TYPE_CHECKING:
    from collections.abc import Callable

TAKEN_AT_ONCE = 50
INSTANCES = 2
OPENING, CREDIT = 1_000, 7
LOCK_SECONDS = 0.4
"""Of the lock column; the instance that freezes does so for twice as long."""
PAY_SECONDS = 0.002
"""Between reading a balance and writing that it was paid: a call to a bank that answers very fast."""

SCHEMA = """
DROP TABLE IF EXISTS account; DROP TABLE IF EXISTS paid; DROP TABLE IF EXISTS credited;
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, changed int NOT NULL DEFAULT 0,
                      locked_until timestamptz);
CREATE TABLE paid (account int NOT NULL, amount bigint NOT NULL);
CREATE TABLE credited (account int NOT NULL, amount bigint NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a way came to."""

    name: str
    per_second: float
    paid_twice: int
    money_off_minor: int
    unpaid: int


async def plain(connection: Any, _instance: int) -> bool:
    """Take some that have a positive balance, pay them, set the balance to what is left."""
    rows = await connection.fetch(
        f"SELECT id, balance FROM account WHERE balance > {CREDIT * 9} LIMIT $1", TAKEN_AT_ONCE
    )
    await asyncio.sleep(PAY_SECONDS)
    for row in rows:
        await connection.execute("INSERT INTO paid VALUES ($1, $2)", row["id"], row["balance"])
        await connection.execute("UPDATE account SET balance = balance - $2 WHERE id = $1", row["id"], row["balance"])
    return bool(rows)


async def lock_column(connection: Any, instance: int) -> bool:
    """Mark rows as taken until a time; the first instance is frozen once, past that time."""
    rows = await connection.fetch(
        "UPDATE account SET locked_until = clock_timestamp() + $2 * interval '1 second'"
        " WHERE id IN (SELECT id FROM account"
        f" WHERE balance > {CREDIT * 9} AND (locked_until IS NULL OR locked_until < clock_timestamp())"
        " ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id, balance",
        TAKEN_AT_ONCE,
        LOCK_SECONDS,
    )
    frozen = instance == 0 and rows and not getattr(lock_column, "froze", False)
    if frozen:
        lock_column.froze = True  # type: ignore[attr-defined]
    await asyncio.sleep(2 * LOCK_SECONDS if frozen else PAY_SECONDS)
    for row in rows:
        await connection.execute("INSERT INTO paid VALUES ($1, $2)", row["id"], row["balance"])
        await connection.execute("UPDATE account SET balance = balance - $2 WHERE id = $1", row["id"], row["balance"])
    left = f"SELECT 1 FROM account WHERE balance > {CREDIT * 9} LIMIT 1"
    return bool(rows) or await connection.fetchval(left) is not None


async def optimistic(connection: Any, _instance: int) -> bool:
    """Only if the row was not paid since it was read, set the balance to nothing; credits do not touch the mark."""
    rows = await connection.fetch(
        f"SELECT id, balance, changed FROM account WHERE balance > {CREDIT * 9} LIMIT $1", TAKEN_AT_ONCE
    )
    await asyncio.sleep(PAY_SECONDS)
    for row in rows:
        done = await connection.execute(
            "UPDATE account SET balance = 0, changed = changed + 1 WHERE id = $1 AND changed = $2",
            row["id"],
            row["changed"],
        )
        if done == "UPDATE 1":
            await connection.execute("INSERT INTO paid VALUES ($1, $2)", row["id"], row["balance"])
    return bool(rows)


async def measure(name: str, url: str, accounts: int, take: Any, instances: int) -> Outcome:
    """Play one way."""
    connections = [await asyncpg.connect(url) for _ in range(instances + 1)]
    *paying, crediting = connections
    await crediting.execute(SCHEMA)
    await crediting.execute("INSERT INTO account SELECT n, $2 FROM generate_series(1, $1) n", accounts, OPENING)
    over = asyncio.Event()

    async def credit() -> None:
        source = random.Random(1)
        while not over.is_set():
            account = source.randint(1, accounts)
            async with crediting.transaction():
                await crediting.execute("UPDATE account SET balance = balance + $2 WHERE id = $1", account, CREDIT)
                await crediting.execute("INSERT INTO credited VALUES ($1, $2)", account, CREDIT)

    async def pay(instance: int) -> None:
        while await take(paying[instance], instance):
            pass

    crediter = asyncio.create_task(credit())
    started = time.monotonic()
    await asyncio.gather(*(pay(instance) for instance in range(instances)))
    seconds = time.monotonic() - started
    over.set()
    await crediter
    count, twice = await crediting.fetchrow(
        f"SELECT SUM(n)::bigint, COUNT(*) FILTER (WHERE n > 1 AND total >= {2 * OPENING}) FROM"
        " (SELECT COUNT(*) n, SUM(amount) total FROM paid GROUP BY account) x"
    )
    off = await crediting.fetchval(
        "SELECT ((SELECT SUM(balance) FROM account) + (SELECT SUM(amount) FROM paid)"
        " - $1 - (SELECT COALESCE(SUM(amount), 0) FROM credited))::bigint",
        accounts * OPENING,
    )
    unpaid = await crediting.fetchval("SELECT COUNT(*) FROM account WHERE id NOT IN (SELECT account FROM paid)")
    for one in connections:
        await one.close()
    return Outcome(name, count / seconds, twice, off, unpaid)


async def measure_ours(url: str, accounts: int) -> Outcome:
    """Two workers reserve while somebody posts; counted in the ledger's own rows."""
    worlds = [World(Database(url), holder) for holder in ("one", "two", "credits")]
    await worlds[0].open_accounts(accounts, OPENING)
    over = asyncio.Event()

    async def credit() -> None:
        source = random.Random(1)
        while not over.is_set():
            await worlds[2].earn(source.randrange(accounts), CREDIT, P2)

    async def reserve(world: World) -> None:
        while (report := await world.runs.report(P1)) is None or report.status is not RunStatus.DISPATCHING:
            await world.reserver.step()

    crediter = asyncio.create_task(credit())
    await worlds[0].runs.register(P1, Trigger.CLI)
    started = time.monotonic()
    await asyncio.gather(*(reserve(one) for one in worlds[:2]))
    seconds = time.monotonic() - started
    over.set()
    await crediter
    paid = await worlds[0].payouts()
    balances = await worlds[0].balances()
    earned = sum((await worlds[0].closing(P2)).values())
    off = sum(balances.values()) + sum(row.amount_minor for row in paid) - earned
    distinct = {row.worker_id for row in paid if row.amount_minor == OPENING}
    for one in worlds:
        await one.database.close()
    return Outcome(
        "unique key, shards with fence", len(paid) / seconds, len(paid) - len(distinct), off, accounts - len(distinct)
    )


async def measure_all(url_of: Callable[[], str], accounts: int) -> list[Outcome]:
    """Every way in turn."""
    plain_url = make_url(url_of()).set(drivername="postgresql").render_as_string(hide_password=False)
    return [
        await measure("plain loop, one instance", plain_url, accounts, plain, 1),
        await measure("plain loop, two instances", plain_url, accounts, plain, INSTANCES),
        await measure("lock column with a time, one frozen", plain_url, accounts, lock_column, INSTANCES),
        await measure("optimistic mark, balance = 0", plain_url, accounts, optimistic, INSTANCES),
        await measure_ours(url_of(), accounts),
    ]


def main(arguments: list[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="compare ways to pay everybody out")
    parser.add_argument("--accounts", type=int, default=5_000)
    accounts = parser.parse_args(arguments).accounts
    services = Services.of_environment()
    try:
        server = services.postgres
        outcomes = asyncio.run(measure_all(server.fresh_database, accounts))
    finally:
        services.close()
    print(f"{accounts} accounts; {'; '.join(services.described)}\n")
    print("| way | payouts a second | paid twice | money off (minor units) | not paid |\n|---|---|---|---|---|")
    for one in outcomes:
        print(f"| {one.name} | {one.per_second:,.0f} | {one.paid_twice:,} | {one.money_off_minor:,} | {one.unpaid:,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
