"""`payday status`: how the groups and the outbox are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.opening import open_broker, open_database, readings_of, run_job
from streams.cli.output import print_json, print_table

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["status"]


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Show lag per group, and what was taken, parked, lost or is still unsent.

    lag: records in Kafka that the group has yet to take. parked: set aside and not resolved, dead among them: those
    that wait for you (payday dead-letters list). lost, skipped: gone before they were read; anything but 0 is an alarm.
    alarms: what is wrong now.

    Example: payday status --json
    """
    found = run_job(_status)
    if as_json:
        print_json(found)
        return
    groups = found["groups"]
    columns = list(next(iter(groups.values())))
    print_table("groups", ("group", *columns), ([name, *counts.values()] for name, counts in groups.items()))
    if found["alarms"]:
        shown = ("since", "severity", "name", "subject", "detail")
        print_table("alarms", shown, ([alarm[name] for name in shown] for alarm in found["alarms"]))
    age = found["oldest_unsent_age_seconds"]
    typer.echo(f"outbox: {found['unsent']} unsent" + ("" if age is None else f", the oldest for {age:.1f} s"))


async def _status(settings: Settings) -> dict[str, Any]:
    from streams.inspection.status import status as look

    async with open_database(settings) as database, open_broker(settings) as broker:
        return await look(database, broker, readings_of(settings))
