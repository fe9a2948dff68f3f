"""A run's stretches of accounts: who works on which, how far it has come, and what the accounts in it are owed.

Invariant: whoever writes in a shard has seen its own fence in the same transaction, with the shard's row locked.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, cast, func, literal, literal_column, or_, select, update

from streams.ledger.domain import Account
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.payouts.domain import RunStatus
from streams.payouts.tables import payout_run, payout_set_aside, payout_shard
from streams.storage.bulk import execute_many, insert_absent, insert_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "Bounds",
    "Owed",
    "Shard",
    "ShardLost",
    "accounts_owed",
    "all_finished",
    "any_free",
    "check_fence",
    "claim",
    "cut",
    "insert",
    "lock_accounts",
    "move_cursor",
    "release",
    "set_aside",
    "take_from_accounts",
]

SHARDS = 16
"""Into how many stretches a run's accounts are cut; more workers than these have nothing to do."""
BEFORE_ALL = ""
"""Sorts before every account id."""


class ShardLost(Exception):
    """Another worker has taken the shard over: what was begun in it must not be committed."""


class Bounds(NamedTuple):
    """A stretch that is to become a shard: (after, up_to], open at its end where `up_to` is None."""

    after: str
    up_to: str | None
    accounts: int


class Shard(NamedTuple):
    """A shard as its holder knows it."""

    period: date
    shard: int
    up_to: str | None
    fence: int


class Owed(NamedTuple):
    """An account and what a run owes it.

    Attributes:
        account: as it stands, locked.
        closing_minor: the sum of its postings that count for the run's period or an earlier one.
    """

    account: Account
    closing_minor: int


async def cut(connection: AsyncConnection, shards: int = SHARDS) -> list[Bounds]:
    """Stretches of about equal size over the accounts there are; together they cover every possible id.

    Accounts that are opened later fall into one of them and cost a look, but nothing is due to them: an account is
    opened by its first posting, and by then the run's period is closed, so that the posting counts for a later one.
    """
    tile = func.ntile(shards).over(order_by=ledger_account.c.worker_id).label("tile")
    tiles = select(ledger_account.c.worker_id, tile).subquery()
    rows = await connection.execute(
        select(func.max(tiles.c.worker_id), func.count()).group_by(tiles.c.tile).order_by(tiles.c.tile)
    )
    found = [(row[0], row[1]) for row in rows] or [(None, 0)]
    afters = [BEFORE_ALL, *(up_to for up_to, _count in found[:-1])]
    up_tos = [*(up_to for up_to, _count in found[:-1]), None]
    counts = [count for _up_to, count in found]
    return [Bounds(*one) for one in zip(afters, up_tos, counts, strict=True)]


async def insert(connection: AsyncConnection, period: date, bounds: Sequence[Bounds]) -> None:
    """Give a run its shards. The caller holds the run's row."""
    await insert_rows(
        connection,
        payout_shard,
        ("period", "shard", "up_to", "cursor", "accounts_total"),
        [(period.isoformat(), number, one.up_to, one.after, one.accounts) for number, one in enumerate(bounds)],
    )


async def all_finished(connection: AsyncConnection, period: date) -> bool:
    """Whether a run has reserved: no shard of it is unfinished."""
    unfinished = select(literal(1)).where(
        payout_shard.c.period == period.isoformat(), payout_shard.c.finished_at_ms.is_(None)
    )
    return (await connection.execute(unfinished.limit(1))).first() is None


async def any_free(connection: AsyncConnection, holder: str, now_ms: int) -> bool:
    """Whether there is anything to claim: a look that takes no lock."""
    return (await connection.execute(_free(holder, now_ms).limit(1))).first() is not None


async def claim(connection: AsyncConnection, holder: str, now_ms: int, lease_ms: int) -> Shard | None:
    """Take over a shard that nobody works on, or whose holder has not been heard of for the length of a lease.

    On SQLite one worker at a time: several would only wait for each other, and make postings wait for all of them.
    """
    wanted = (
        _free(holder, now_ms)
        .order_by(payout_shard.c.period, payout_shard.c.shard)
        .limit(1)
        .with_for_update(of=payout_shard, skip_locked=True)
    )
    if connection.dialect.name == "sqlite":
        other = payout_shard.alias("other")
        wanted = wanted.where(
            ~select(literal(1))
            .where(other.c.finished_at_ms.is_(None), other.c.holder != holder, other.c.lease_expires_at_ms > now_ms)
            .exists()
        )
    row = (await connection.execute(wanted)).first()
    if row is None:
        return None
    await connection.execute(
        update(payout_shard)
        .where(payout_shard.c.period == row.period, payout_shard.c.shard == row.shard)
        .values(holder=holder, fence=row.fence + 1, lease_expires_at_ms=now_ms + lease_ms)
    )
    return Shard(date.fromisoformat(row.period), row.shard, row.up_to, row.fence + 1)


def _free(holder: str, now_ms: int) -> Select[Any]:
    """A holder may claim its own shard again: it does so after a chunk that failed."""
    unfinished = and_(payout_run.c.status == RunStatus.RESERVING, payout_shard.c.finished_at_ms.is_(None))
    is_free = or_(
        payout_shard.c.lease_expires_at_ms.is_(None),
        payout_shard.c.lease_expires_at_ms <= now_ms,
        payout_shard.c.holder == holder,
    )
    return (
        select(payout_shard).join(payout_run, payout_run.c.period == payout_shard.c.period).where(unfinished, is_free)
    )


async def check_fence(connection: AsyncConnection, shard: Shard) -> str:
    """Lock the shard's row and see that it is still ours.

    Returns:
        Its cursor.

    Raises:
        ShardLost: somebody else has claimed it, or finished it.
    """
    row = (
        await connection.execute(
            select(payout_shard.c.cursor, payout_shard.c.fence, payout_shard.c.finished_at_ms)
            .where(payout_shard.c.period == shard.period.isoformat(), payout_shard.c.shard == shard.shard)
            .with_for_update()
        )
    ).one()
    if row.fence != shard.fence or row.finished_at_ms is not None:
        raise ShardLost(f"shard {shard.shard} of {shard.period} belongs to fence {row.fence}, not {shard.fence}")
    cursor: str = row.cursor
    return cursor


async def lock_accounts(connection: AsyncConnection, shard: Shard, cursor: str, at_most: int) -> list[str]:
    """The next accounts, in the order of their ids, which is the order in which everybody locks them."""
    in_shard = [ledger_account.c.worker_id > cursor]
    if shard.up_to is not None:
        in_shard.append(ledger_account.c.worker_id <= shard.up_to)
    rows = await connection.execute(
        select(ledger_account.c.worker_id)
        .where(*in_shard)
        .order_by(ledger_account.c.worker_id)
        .limit(at_most)
        .with_for_update()
    )
    return [row[0] for row in rows]


_LATER = (
    select(func.sum(ledger_transfer.c.signed_minor))
    .where(ledger_transfer.c.worker_id == ledger_account.c.worker_id, ledger_transfer.c.period > bindparam("of_period"))
    .scalar_subquery()
)
_OWED = (
    select(
        ledger_account.c.worker_id,
        ledger_account.c.balance_minor,
        ledger_account.c.version,
        cast(ledger_account.c.balance_minor - func.coalesce(_LATER, 0), BigInteger).label("closing_minor"),
    )
    .where(ledger_account.c.worker_id > bindparam("after"), ledger_account.c.worker_id <= bindparam("last"))
    .order_by(ledger_account.c.worker_id)
)


async def accounts_owed(connection: AsyncConnection, period: date, after: str, last: str) -> list[Owed]:
    """What accounts are owed at the close of a period.

    To be asked in a statement of its own *after* `lock_accounts`: a posting that committed while we waited for a lock
    is in the balance that the lock gives, but only a later statement sees its transfer.
    """
    rows = await connection.execute(_OWED, {"of_period": period.isoformat(), "after": after, "last": last})
    return [Owed(Account(row[0], row[1], row[2], row[2]), row[3]) for row in rows]


_TAKE = (
    update(ledger_account)
    .where(ledger_account.c.worker_id == bindparam("in_worker_id"))
    .values(
        balance_minor=ledger_account.c.balance_minor - bindparam("amount_minor"),
        version=ledger_account.c.version + literal_column("1"),
    )
)


async def take_from_accounts(connection: AsyncConnection, amounts: Sequence[tuple[str, int]]) -> None:
    """Lower balances by amounts, never to an amount: what was credited meanwhile stays."""
    await execute_many(
        connection, _TAKE, [{"in_worker_id": worker_id, "amount_minor": amount} for worker_id, amount in amounts]
    )


async def move_cursor(
    connection: AsyncConnection, shard: Shard, cursor: str, *, accounts: int, finished: bool, now_ms: int, lease_ms: int
) -> None:
    """Write down how far a shard has come, and that its holder is alive."""
    await connection.execute(
        update(payout_shard)
        .where(payout_shard.c.period == shard.period.isoformat(), payout_shard.c.shard == shard.shard)
        .values(
            cursor=cursor,
            accounts_done=payout_shard.c.accounts_done + accounts,
            finished_at_ms=now_ms if finished else None,
            lease_expires_at_ms=now_ms + lease_ms,
        )
    )


async def set_aside(connection: AsyncConnection, period: date, worker_id: str, error: str, now_ms: int) -> None:
    """Note that a run could not pay an account; its balance stays as it is."""
    await insert_absent(
        connection,
        payout_set_aside,
        ("period", "worker_id", "error", "set_aside_at_ms"),
        [(period.isoformat(), worker_id, error, now_ms)],
    )


async def release(connection: AsyncConnection, holder: str) -> None:
    """Let others have what a holder that stops has claimed, without waiting for its lease to end."""
    await connection.execute(
        update(payout_shard)
        .where(payout_shard.c.holder == holder, payout_shard.c.finished_at_ms.is_(None))
        .values(lease_expires_at_ms=None)
    )
