"""`payday ledger`: an account statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import open_database, run_job
from streams.cli.output import money, print_json, print_table

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["ledger"]


def ledger(
    worker_id: Annotated[str, typer.Argument(metavar="WORKER_ID", help="The worker's id, a UUID.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {worker_id, balance_minor, currency, entries}.")
    ] = False,
) -> None:
    """Show a worker's account statement: every posting in order, and the balance.

    Exits with 1 for a worker without an account: nothing was ever posted for them.

    Example: payday ledger 0190a6b0-0000-7000-8000-000000000001
    """
    from uuid import UUID

    try:
        canonical = str(UUID(worker_id))
    except ValueError:
        raise Refused(f"{worker_id[:60]!r} is no worker's id: it should be a UUID") from None
    found = run_job(lambda settings: _statement(settings, canonical))
    if found is None:
        raise Failed(f"nothing was ever posted for worker {canonical}")
    if as_json:
        print_json(found)
        return
    columns = ("#", "kind", "amount", "balance", "period", "for")
    rows = (
        (
            entry["sequence"],
            entry["kind"],
            money(entry["amount_minor"], entry["currency"]),
            money(entry["balance_after_minor"], entry["currency"]),
            entry["period"],
            entry.get("task_id") or entry.get("payout_id") or entry.get("note", ""),
        )
        for entry in found["entries"]
    )
    print_table(f"account of {canonical}", columns, rows)
    typer.echo(f"balance: {money(found['balance_minor'], found['currency'])}")


async def _statement(settings: Settings, worker_id: str) -> dict[str, Any] | None:
    from streams.inspection.statement import statement

    async with open_database(settings) as database:
        return await statement(database, worker_id, settings.currency)
