"""`payday payouts`: starting runs, seeing how they do, comparing with the bank, deciding what only a person can."""

from __future__ import annotations

import asyncio
import getpass
import time
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import open_database, run_job
from streams.cli.output import print_json, print_pairs, print_table, say, work_in_progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.payouts.domain import Known, NewRun
    from streams.payouts.reconcile import Reconciliation
    from streams.payouts.resolve import Decision
    from streams.payouts.service import Payouts
    from streams.payouts.store import RunReport
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Paying balances out: runs, and what became of them.")

LOOK_SECONDS = 0.25
NO_BANK = "PAYDAY_BANK_URL is not set here"

PeriodArgument = Annotated[
    str, typer.Argument(metavar="[PERIOD]", help="A date such as 2026-11-22.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


@app.command()
def start(
    period: PeriodArgument = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until the run is completed.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Give up waiting after this many seconds.")] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Pay out what everybody has earned up to a day that is over; without a period, yesterday.

    Closes the day and registers its run; the instances of `payday run` carry it out. Asking again is harmless, also
    beside a schedule. Exits with 1 if the run is refused: the day is not over, or a later run has paid it.

    Example: payday payouts start 2026-11-22 --wait
    """
    report = run_job(lambda settings: _start(settings, period, timeout if wait else None, quiet=as_json))
    _show(report, as_json=as_json)


@app.command()
def status(period: PeriodArgument = "", as_json: JsonOption = False) -> None:
    """Show how a run does; without a period, the latest.

    open: under way. review: waits for a person (payday payouts list --state manual-review). set aside: accounts that
    could not be paid. parked at close: records whose money came too late for this run.

    Example: payday payouts status 2026-11-22 --json
    """
    _show(run_job(lambda settings: _status(settings, period)), as_json=as_json)


@app.command("list")
def list_(
    period: PeriodArgument = "",
    state: Annotated[
        str, typer.Option(help="Only these: requested, sending, unknown, confirmed, reversed, manual-review.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List payouts, those that need a person first.

    Example: payday payouts list --state manual-review
    """
    found = run_job(lambda settings: _list(settings, period, state, limit))
    if as_json:
        print_json(found)
        return
    columns = ("payout_id", "worker_id", "period", "seq", "amount_minor", "state", "attempts", "reason_code", "note")
    print_table("payouts", columns, ([one[name] for name in columns] for one in found), empty="none")


@app.command()
def reconcile(period: PeriodArgument = "", as_json: JsonOption = False) -> None:
    """Compare payouts, the ledger and the bank's own report of a period; without one, the latest run's.

    Money that the bank has returned is given back to its account. Differences are listed and kept until they are gone
    or accepted (payday payouts accept); as long as there are any, there is an alarm and this exits with 1.

    Example: payday payouts reconcile 2026-11-22
    """
    found = run_job(lambda settings: _reconcile(settings, period))
    rows = [one._asdict() | {"kind": one.kind.value} for one in found.differences]
    if as_json:
        numbers = {name: getattr(found, name) for name in ("returned", "payouts_minor", "ledger_minor", "bank_minor")}
        print_json({"period": str(found.period), "ok": found.ok, **numbers, "differences": rows})
    else:
        print_table("differences", ("kind", "reference", "detail"), (one.values() for one in rows), empty="none")
        typer.echo(
            f"paid by our payouts {found.payouts_minor}, our ledger {found.ledger_minor}, the bank {found.bank_minor} "
            f"(minor units); {found.returned} came back"
        )
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def resolve(
    payout_id: Annotated[str, typer.Argument(help="A payout that is in manual review.", show_default=False)],
    confirmed: Annotated[str, typer.Option(metavar="REF", help="The bank has paid, under this reference.")] = "",
    failed: Annotated[str, typer.Option(metavar="REASON", help="It has not and will not: give the money back.")] = "",
    retry: Annotated[bool, typer.Option("--retry", help="It has no trace of it: send it again.")] = False,
    note: Annotated[str, typer.Option(help="How you know, for those who ask later.")] = "",
) -> None:
    """Decide about a payout of which only a person can say what the bank did. What was decided, by whom, is kept.

    Before --failed and --retry make sure that the bank has no such payment, not even one on its way: both make the
    money go out again.

    Example: payday payouts resolve 1f0c... --confirmed BANK-4711 --note "called the bank"
    """
    run_job(lambda settings: _resolve(settings, payout_id, _decision(confirmed, failed, retry=retry), note))
    say(f"payday payouts: {payout_id} is resolved")


@app.command()
def accept(
    period: Annotated[str, typer.Argument(help="A date such as 2026-11-22.", show_default=False)],
    note: Annotated[str, typer.Option(help="Why it is all right.", show_default=False)],
    difference: Annotated[str, typer.Option(metavar="KIND:REFERENCE", help="As `reconcile` lists it.")] = "",
    set_aside: Annotated[str, typer.Option(metavar="WORKER_ID", help="An account that was set aside.")] = "",
) -> None:
    """Say that a difference is understood, or that an account that was set aside has been seen to. Ends its alarm.

    Example: payday payouts accept 2026-11-22 --difference unknown-to-us:BANK-4711 --note "a test of the bank's"
    """
    if bool(difference) == bool(set_aside):
        raise Refused("say either --difference KIND:REFERENCE or --set-aside WORKER_ID")
    if not note.strip():
        raise Refused("--note should say why")
    run_job(lambda settings: _accept(settings, _period(period), difference, set_aside, note))
    say("payday payouts: accepted")


# --- inside ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Payouts, Database]]:
    """The slice without its workers."""
    from streams.accounting.handlers import GROUP
    from streams.catalog import ContractCatalog
    from streams.ledger.domain import BusinessCalendar
    from streams.payouts.service import Payouts

    async with open_database(settings) as database:
        calendar = BusinessCalendar(settings.zone, settings.currency, settings.clock_skew_seconds)
        yield (
            Payouts(
                database,
                ContractCatalog(),
                calendar,
                topic_prefix=settings.topic_prefix,
                accounting_group=settings.group_prefix + GROUP,
            ),
            database,
        )


def _period(text: str) -> date:
    from pydantic import TypeAdapter, ValidationError

    from contracts.fields import Period

    try:
        return TypeAdapter[date](Period).validate_strings(text)
    except ValidationError:
        raise Refused(f"{text!r} is no period: give a date such as 2026-11-22") from None


async def _start(settings: Settings, text: str, wait_seconds: float | None, *, quiet: bool) -> RunReport:
    from streams.payouts.domain import Refused as RunRefused
    from streams.payouts.domain import Trigger

    period = _period(text) if text else (datetime.now(settings.zone) - timedelta(days=1)).date()
    async with _opened(settings) as (payouts, _database):
        outcome: NewRun | Known | RunRefused = await payouts.runs.register(period, Trigger.CLI)
        if isinstance(outcome, RunRefused):
            raise Failed(f"{outcome.reason_code}: {outcome.message}")
        if wait_seconds is not None:
            if settings.bank_url is None:
                say(f"payday payouts: {NO_BANK}: an instance that has a bank must send the payouts")
            await _wait(payouts, period, wait_seconds, quiet=quiet)
        report = await payouts.runs.report(period)
        assert report is not None, "it has just been registered"
        return report


async def _wait(payouts: Payouts, period: date, timeout_seconds: float, *, quiet: bool) -> None:
    from streams.payouts.domain import RunStatus

    deadline = time.monotonic() + timeout_seconds
    with work_in_progress(f"payouts of {period}", quiet=quiet) as show:
        while True:
            report = await payouts.runs.report(period)
            assert report is not None, "runs are never deleted"
            decided = report.paid_count + report.failed_count
            show(report.accounts_done + decided, report.accounts_total + decided + report.open_count)
            if report.status is RunStatus.COMPLETED:
                return
            if time.monotonic() >= deadline:
                raise Failed(
                    f"the run is {report.status.value} after {timeout_seconds:g} s; {report.open_count} are open"
                )
            await asyncio.sleep(LOOK_SECONDS)


async def _status(settings: Settings, text: str) -> RunReport:
    async with _opened(settings) as (payouts, _database):
        report = await (payouts.runs.report(_period(text)) if text else payouts.runs.latest())
    if report is None:
        raise Failed(f"there is no run of {text}" if text else "there has been no run yet")
    if settings.bank_url is None and report.open_count:
        say(f"payday payouts: {NO_BANK}: an instance that has a bank must send the {report.open_count} open payouts")
    return report


def _show(report: RunReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_json())
    else:
        print_pairs(
            f"payout run of {report.period}",
            {name.removesuffix("_count").replace("_", " "): value for name, value in report.as_json().items()},
        )


async def _list(settings: Settings, text: str, state: str, limit: int) -> list[dict[str, Any]]:
    from streams.payouts.domain import PayoutState
    from streams.payouts.store import list_payouts

    try:
        states = [PayoutState(one.strip()) for one in state.split(",") if one.strip()]
    except ValueError as error:
        raise Refused(f"--state {state}: {error}; there are {', '.join(PayoutState)}") from None
    async with open_database(settings) as database, database.read() as connection:
        return await list_payouts(connection, _period(text) if text else None, states, limit)


async def _reconcile(settings: Settings, text: str) -> Reconciliation:
    from streams.app import open_bank
    from streams.payouts.reconcile import Reconciler

    bank = open_bank(settings)
    if bank is None:
        raise Refused(f"{NO_BANK}, so there is no report to compare with")
    try:
        async with _opened(settings) as (payouts, database):
            if text:
                period = _period(text)
            elif (latest := await payouts.runs.latest()) is not None:
                period = latest.period
            else:
                raise Failed("there has been no run yet")
            return await Reconciler(database, bank, payouts.outcomes).reconcile(period)
    finally:
        await bank.close()


def _decision(confirmed: str, failed: str, *, retry: bool) -> Decision:
    from streams.payouts.resolve import BankHasPaid, BankHasRefused, SendAgain

    said: list[Decision] = []
    if confirmed:
        said.append(BankHasPaid(confirmed))
    if failed:
        said.append(BankHasRefused(failed))
    if retry:
        said.append(SendAgain())
    if len(said) != 1:
        raise Refused("say exactly one of --confirmed REF, --failed REASON and --retry")
    return said[0]


async def _resolve(settings: Settings, payout_id: str, decision: Decision, note: str) -> None:
    from streams.payouts.resolve import Resolver

    async with _opened(settings) as (payouts, database):
        await Resolver(database, payouts.outcomes, getpass.getuser()).resolve(payout_id, decision, note)


async def _accept(settings: Settings, period: date, difference: str, worker_id: str, note: str) -> None:
    from streams.payouts.resolve import Resolver

    async with _opened(settings) as (payouts, database):
        resolver = Resolver(database, payouts.outcomes, getpass.getuser())
        if worker_id:
            await resolver.accept_set_aside(period, worker_id, note)
        else:
            kind, _, reference = difference.partition(":")
            await resolver.accept_difference(period, kind, reference, note)
