"""The rows of the payouts slice in the database: what its deciders work on, and runs and payouts for others to read."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import case, func, literal, select

from streams.intake.tables import parked
from streams.ledger.directory import WorkerKey
from streams.ledger.store import WorkerRows, ledger_rows
from streams.outbox.envelope import Origin
from streams.payouts.domain import (
    FIRST_SEQ,
    OPEN_STATES,
    LatestRunKey,
    Payout,
    PayoutKey,
    PayoutState,
    Rejection,
    RejectionKey,
    Run,
    RunKey,
    RunStatus,
    Trigger,
)
from streams.payouts.tables import payout, payout_rejection, payout_run, payout_set_aside, payout_shard
from streams.storage.bulk import among, insert_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.deciders import Rows
    from streams.intake.unit_of_work import UnitOfWork

__all__ = [
    "RunCounts",
    "RunReport",
    "count_under_way",
    "has_open_payouts",
    "insert_payouts",
    "insert_run",
    "latest_period",
    "list_payouts",
    "load_payouts",
    "load_run",
    "load_runs",
    "lock_payouts",
    "payout_from",
    "payout_rows",
    "report_of",
    "run_counts",
    "select_payouts",
]


def payout_rows(accounting_group: str, wake: Callable[[], None]) -> dict[type, Rows]:
    """What the slice's deciders work on.

    The order is the order of locks: payouts, the book, accounts. Dispatching takes them in the same order.

    Args:
        accounting_group: the full name of the group whose parked records a run reports.
        wake: called once something new is committed.
    """
    return {
        WorkerKey: WorkerRows(),
        PayoutKey: _Payouts(wake),
        **ledger_rows(),
        RunKey: _Runs(accounting_group, wake),
        LatestRunKey: _LatestRun(),
        RejectionKey: _Rejections(),
    }


class _Payouts:
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    async def load(self, connection: AsyncConnection, keys: set[PayoutKey]) -> Mapping[Any, Any]:
        found = await lock_payouts(connection, [key.payout_id for key in keys])
        return {PayoutKey(one.payout_id): one for one in found}

    async def save(self, work: UnitOfWork, changed: Mapping[PayoutKey, Payout]) -> None:
        """A payout is only ever put when there is none."""
        await insert_payouts(work.connection, changed.values(), work.now_ms)
        work.after_commit(self._wake)


class _Runs:
    def __init__(self, accounting_group: str, wake: Callable[[], None]) -> None:
        self._accounting_group = accounting_group
        self._wake = wake

    async def load(self, connection: AsyncConnection, keys: set[RunKey]) -> Mapping[Any, Any]:
        found = await load_runs(connection, payout_run.c.period.in_([key.period.isoformat() for key in keys]))
        return {RunKey(run.period): run for run in found}

    async def save(self, work: UnitOfWork, changed: Mapping[RunKey, Run]) -> None:
        """A run is only ever put when there is none."""
        for run in changed.values():
            await insert_run(work.connection, run, self._accounting_group, work.now_ms)
        work.after_commit(self._wake)


class _LatestRun:
    async def load(self, connection: AsyncConnection, keys: set[LatestRunKey]) -> Mapping[Any, Any]:
        return dict.fromkeys(keys, await latest_period(connection))

    async def save(self, work: UnitOfWork, changed: Mapping[Any, Any]) -> None:
        """A view of the runs, which are saved themselves."""


class _Rejections:
    async def load(self, connection: AsyncConnection, keys: set[RejectionKey]) -> Mapping[Any, Any]:
        raise NotImplementedError("rejections are only ever added")

    async def save(self, work: UnitOfWork, changed: Mapping[RejectionKey, Rejection]) -> None:
        await insert_rows(
            work.connection,
            payout_rejection,
            ("command_id", "command_type", "reason_code", "rejected_at_ms"),
            [(row.command_id, row.command_type, row.reason_code, row.rejected_at_ms) for row in changed.values()],
        )


# --- runs ------------------------------------------------------------------------------------------------------------


async def load_runs(connection: AsyncConnection, *conditions: Any) -> list[Run]:
    """Runs in the order of their periods."""
    rows = await connection.execute(select(payout_run).where(*conditions).order_by(payout_run.c.period))
    return [
        Run(
            date.fromisoformat(row.period),
            RunStatus(row.status),
            Trigger(row.trigger),
            Origin(row.time_ms, row.cause_id, row.correlation_id, row.traceparent),
        )
        for row in rows
    ]


async def load_run(connection: AsyncConnection, period: date) -> Run | None:
    """The run of a period."""
    found = await load_runs(connection, payout_run.c.period == period.isoformat())
    return found[0] if found else None


async def latest_period(connection: AsyncConnection) -> date | None:
    """The latest period with a run; final only while the book is held alone."""
    latest = (await connection.execute(select(func.max(payout_run.c.period)))).scalar_one()
    return date.fromisoformat(latest) if latest else None


async def insert_run(connection: AsyncConnection, run: Run, accounting_group: str, now_ms: int) -> None:
    """Register a run, with the number of records whose money is late for it."""
    late = await connection.execute(
        select(func.count()).where(parked.c.resolved_at_ms.is_(None), parked.c.group_name == accounting_group)
    )
    origin = run.origin
    await insert_rows(
        connection,
        payout_run,
        (
            "period",
            "status",
            "trigger",
            "time_ms",
            "cause_id",
            "correlation_id",
            "traceparent",
            "parked_at_close",
            "registered_at_ms",
        ),
        [
            (
                run.period.isoformat(),
                run.status.value,
                run.trigger.value,
                origin.time_ms,
                origin.message_id,
                origin.correlation_id,
                origin.traceparent,
                late.scalar_one(),
                now_ms,
            )
        ],
    )


class RunCounts(NamedTuple):
    """What has become of a run's payouts. Those that were reissued count for what became of the first one."""

    paid_count: int
    failed_count: int
    total_minor: int
    open_count: int
    review_count: int


async def run_counts(connection: AsyncConnection, period: date) -> RunCounts:
    """Counted now, over every payout of the run."""
    rows = await connection.execute(
        select(payout.c.state, func.count(), func.sum(payout.c.amount_minor))
        .where(payout.c.period == period.isoformat(), payout.c.seq == FIRST_SEQ)
        .group_by(payout.c.state)
    )
    counts: dict[str, tuple[int, int]] = {row[0]: (row[1], int(row[2])) for row in rows}

    def count(*states: PayoutState) -> int:
        return sum(counts.get(state, (0, 0))[0] for state in states)

    review = count(PayoutState.MANUAL_REVIEW)
    return RunCounts(
        count(PayoutState.CONFIRMED),
        count(PayoutState.REVERSED) + review,
        counts.get(PayoutState.CONFIRMED, (0, 0))[1],
        count(*OPEN_STATES),
        review,
    )


class RunReport(NamedTuple):
    """How far a run has come. Amounts are minor units.

    Attributes:
        accounts_done, accounts_total: how many were looked at, of how many; both 0 until reserving begins.
        paid_count, failed_count, total_minor: at its completion, or so far.
        open_count: payouts that are requested, being sent or of unknown outcome.
        review_count: payouts that wait for a person.
        set_aside_count: accounts that could not be paid.
        parked_at_close: records of accounting that were set aside when it was registered: their money is late.
    """

    period: date
    status: RunStatus
    trigger: Trigger
    accounts_done: int
    accounts_total: int
    paid_count: int
    failed_count: int
    total_minor: int
    open_count: int
    review_count: int
    set_aside_count: int
    parked_at_close: int

    def as_json(self) -> dict[str, Any]:
        """As scripts read it."""
        texts = {"period": self.period.isoformat(), "status": self.status.value, "trigger": self.trigger.value}
        return self._asdict() | texts


async def report_of(connection: AsyncConnection, period: date) -> RunReport | None:
    """How far the run of a period has come; None where there is none."""
    row = (await connection.execute(select(payout_run).where(payout_run.c.period == period.isoformat()))).first()
    if row is None:
        return None
    done, total = (
        await connection.execute(
            select(
                func.coalesce(func.sum(payout_shard.c.accounts_done), 0),
                func.coalesce(
                    func.sum(
                        case(
                            (payout_shard.c.finished_at_ms.is_not(None), payout_shard.c.accounts_done),
                            (
                                payout_shard.c.accounts_done > payout_shard.c.accounts_total,
                                payout_shard.c.accounts_done,
                            ),
                            else_=payout_shard.c.accounts_total,
                        )
                    ),
                    0,
                ),
            ).where(payout_shard.c.period == period.isoformat())
        )
    ).one()
    counts = await run_counts(connection, period)
    aside = await connection.execute(
        select(func.count()).where(
            payout_set_aside.c.period == period.isoformat(), payout_set_aside.c.resolved_at_ms.is_(None)
        )
    )
    completed = row.status == RunStatus.COMPLETED
    return RunReport(
        period,
        RunStatus(row.status),
        Trigger(row.trigger),
        int(done),
        int(total),
        row.paid_count if completed else counts.paid_count,
        row.failed_count if completed else counts.failed_count,
        row.total_minor if completed else counts.total_minor,
        counts.open_count,
        counts.review_count,
        aside.scalar_one(),
        row.parked_at_close,
    )


async def count_under_way(connection: AsyncConnection, now_ms: int, *, pays: bool) -> int:
    """How many runs and payouts would move on by themselves if this process waited.

    Args:
        connection: for reading.
        now_ms: by the database's clock.
        pays: whether anybody here has a bank; without one only reserving goes on.
    """
    reserving = await connection.execute(
        select(func.count()).where(payout_run.c.status.in_([RunStatus.REGISTERED, RunStatus.RESERVING]))
    )
    nothing_open = ~select(literal(1)).where(_is_open_of(payout_run.c.period)).exists()
    ending = await connection.execute(
        select(func.count()).where(payout_run.c.status == RunStatus.DISPATCHING, nothing_open)
    )
    due = 0
    if pays:
        being_sent = payout.c.state == PayoutState.SENDING
        due = (
            await connection.execute(
                select(func.count()).where(
                    payout.c.next_attempt_at_ms.is_not(None), (payout.c.next_attempt_at_ms <= now_ms) | being_sent
                )
            )
        ).scalar_one()
    return int(reserving.scalar_one()) + int(ending.scalar_one()) + int(due)


def _is_open_of(period: Any) -> Any:
    return (payout.c.period == period) & payout.c.next_attempt_at_ms.is_not(None) & (payout.c.seq == FIRST_SEQ)


async def has_open_payouts(connection: AsyncConnection, period: date) -> bool:
    """Whether anything of a run is still under way."""
    found = await connection.execute(select(literal(1)).where(_is_open_of(period.isoformat())).limit(1))
    return found.first() is not None


# --- payouts ---------------------------------------------------------------------------------------------------------

_COLUMNS = (
    "payout_id",
    "worker_id",
    "period",
    "seq",
    "amount_minor",
    "currency",
    "state",
    "next_attempt_at_ms",
    "sendable_since_ms",
    "requested_at_ms",
    "time_ms",
    "cause_id",
    "correlation_id",
    "traceparent",
)


LISTED = (
    "payout_id",
    "worker_id",
    "period",
    "seq",
    "amount_minor",
    "currency",
    "state",
    "attempts",
    "unanswered",
    "provider_ref",
    "reason_code",
    "note",
)
"""What a person sees of a payout."""


async def insert_payouts(connection: AsyncConnection, payouts: Iterable[Payout], now_ms: int) -> None:
    """Add payouts that are to be sent at once. What asked for one is kept with it only where that was not its run."""
    nothing = (None, None, None, None)
    await insert_rows(
        connection,
        payout,
        _COLUMNS,
        [
            (
                one.payout_id,
                one.worker_id,
                one.period.isoformat(),
                one.seq,
                one.amount_minor,
                one.currency,
                one.state.value,
                now_ms,
                one.sendable_since_ms,
                now_ms,
                *(
                    nothing
                    if one.seq == FIRST_SEQ
                    else (
                        one.origin.time_ms,
                        one.origin.message_id,
                        one.origin.correlation_id,
                        one.origin.traceparent,
                    )
                ),
            )
            for one in payouts
        ],
    )


async def load_payouts(connection: AsyncConnection, payout_ids: Iterable[str]) -> list[Payout]:
    """Payouts by id, in the order of their ids."""
    rows = await connection.execute(select_payouts().where(among(connection, payout.c.payout_id, payout_ids)))
    return [payout_from(row) for row in rows]


async def list_payouts(
    connection: AsyncConnection, period: date | None, states: Sequence[PayoutState], at_most: int
) -> list[dict[str, Any]]:
    """Payouts for a person, those under review first."""
    statement = select(*(payout.c[name] for name in LISTED))
    if period is not None:
        statement = statement.where(payout.c.period == period.isoformat())
    if states:
        statement = statement.where(payout.c.state.in_(states))
    first = case((payout.c.state == PayoutState.MANUAL_REVIEW, 0), else_=1)
    ordered = statement.order_by(first, payout.c.period, payout.c.worker_id, payout.c.seq).limit(at_most)
    return [dict(row) for row in (await connection.execute(ordered)).mappings()]


async def lock_payouts(connection: AsyncConnection, payout_ids: Sequence[str]) -> list[Payout]:
    """The same, kept from being changed until the transaction ends."""
    rows = await connection.execute(
        select_payouts().where(among(connection, payout.c.payout_id, payout_ids)).with_for_update(of=payout)
    )
    return [payout_from(row) for row in rows]


def select_payouts() -> Select[Any]:
    """Payouts as `payout_from` reads them, in the order of their ids: that of a payout of a run is its run's cause."""
    own = payout.c.time_ms.is_not(None)

    def origin(name: str) -> Any:
        return case((own, payout.c[name]), else_=payout_run.c[name]).label(f"origin_{name}")

    return (
        select(
            payout,
            origin("time_ms"),
            origin("cause_id"),
            origin("correlation_id"),
            origin("traceparent"),
        )
        .select_from(payout.outerjoin(payout_run, payout_run.c.period == payout.c.period))
        .order_by(payout.c.payout_id)
    )


def payout_from(row: Row[Any]) -> Payout:
    """A row of `select_payouts`."""
    return Payout(
        row.payout_id,
        row.worker_id,
        date.fromisoformat(row.period),
        row.seq,
        row.amount_minor,
        row.currency,
        PayoutState(row.state),
        Origin(row.origin_time_ms, row.origin_cause_id, row.origin_correlation_id, row.origin_traceparent),
        row.sendable_since_ms,
        row.attempts,
        row.unanswered,
        row.provider_ref,
        row.reason_code,
        date.fromisoformat(row.reversal_period) if row.reversal_period else None,
    )
