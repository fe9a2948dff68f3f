"""`payday audit`: whether every invariant holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Refused
from streams.cli.opening import open_broker, open_database, readings_of, run_job
from streams.cli.output import print_json, print_table, say, work_in_progress

if TYPE_CHECKING:
    from streams.inspection.audit import Audit
    from streams.inspection.totals import Totals
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["audit"]

BROKER_TIMEOUT_SECONDS = 2.0
LOOK_SECONDS = 2.0


def audit(
    expect: Annotated[
        Path | None, typer.Option(help="Compare with these totals, a JSON file.", show_default=False)
    ] = None,
    settled: Annotated[
        bool | None,
        typer.Option(
            "--settled/--unsettled",
            help="Compare the slices with each other (only true when nothing is under way); by default: if it is.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {ok, checks: {name: offending rows}}.")] = False,
) -> None:
    """Check every invariant of the streams and the ledger in SQL. Changes nothing, may run beside the app.

    Exits with 1 if anything is wrong and shows the rows that break a rule. The file for --expect holds any of
    tasks_created, assignments, tasks_completed, rejected {reason: n}, transactions, balance_total_minor,
    balances {worker_id: minor}; what is left out is not compared.

    Example: payday audit --expect totals.json
    """
    expected = None if expect is None else _expected(expect)
    result = run_job(lambda settings: _audit(settings, expected, settled))
    for finding in result.findings:
        if finding.rows:
            say(f"payday audit: {finding.name}: {finding.rows} rows break the rule that {finding.holds}")
            for example in finding.examples:
                say("  " + " ".join(f"{name}={value}" for name, value in example.items()))
    if as_json:
        print_json({"ok": result.ok, "checks": result.counts})
    else:
        print_table(
            "audit",
            ("check", "rule", "rows that break it"),
            ((one.name, one.holds, one.rows) for one in result.findings),
        )
    raise typer.Exit(0 if result.ok else 1)


def _expected(file: Path) -> Totals:
    from pydantic import ValidationError

    from streams.inspection.totals import Totals

    try:
        return Totals.model_validate_json(file.read_bytes())
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        known = ", ".join(Totals.model_fields)
        hint = f"; there are {known}" if problem["type"] == "extra_forbidden" else ""
        raise Refused(f"{file}: {where + ': ' if where else ''}{problem['msg']}{hint}") from None


async def _audit(settings: Settings, expected: Totals | None, settled: bool | None) -> Audit:
    from streams.inspection.audit import audit as check

    async with open_database(settings) as database:
        compare = await _is_settled(settings, database) if settled is None else settled
        with work_in_progress("checking") as show:
            result = await check(
                database, settled=compare, expected=expected, topic_prefix=settings.topic_prefix, on_check=show
            )
        if settled is None and compare and not result.ok and not await _is_settled(settings, database):
            say("payday audit: messages came in meanwhile; checked again without comparing the slices")
            result = await check(database, settled=False, expected=expected, topic_prefix=settings.topic_prefix)
        return result


async def _is_settled(settings: Settings, database: Database) -> bool:
    from streams.inspection.log_ends import BrokerUnreachable
    from streams.inspection.settled import NotSettled, SettledWatch
    from streams.settings import BrokerUnknown

    try:
        async with open_broker(settings, timeout_seconds=BROKER_TIMEOUT_SECONDS) as broker:
            watch = SettledWatch(database, broker, readings_of(settings), group_prefix=settings.group_prefix)
            await watch.wait(LOOK_SECONDS)
    except (BrokerUnknown, BrokerUnreachable, NotSettled) as error:
        say(f"payday audit: the slices are not compared with each other ({error})")
        return False
    return True
