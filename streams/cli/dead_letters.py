"""`payday dead-letters`: the records that could not be handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import open_database, run_job
from streams.cli.output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from streams.inspection.parked_list import ParkedFilter
    from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The records that could not be handled: kept whole, and in order.")


@app.command("list")
def list_dead_letters(
    cause: Annotated[bool, typer.Option("--by-cause", help="Count by group, topic, reason and kind of error.")] = False,
    group: Annotated[str | None, typer.Option(help="Of this group, full name.", show_default=False)] = None,
    topic: Annotated[str | None, typer.Option(help="Of this topic, full name.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="With this record key.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="undecodable, invalid, failed, ...", show_default=False)] = None,
    state: Annotated[
        str | None, typer.Option(help="retrying, blocked, dead, resolved or discarded.", show_default=False)
    ] = None,
    type_name: Annotated[str | None, typer.Option("--type", help="With this ce_type.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """List what is parked and not resolved, in the order in which it came.

    retrying is tried again by itself, blocked waits for an earlier record of its key, dead waits for you.

    Example: payday dead-letters list --by-cause
    """
    from streams.inspection.parked_list import STATES, ParkedFilter
    from streams.intake.record import Reason

    reasons = tuple(one.value for one in Reason)
    for option, value, choices in (("--state", state, STATES), ("--reason", reason, reasons)):
        if value is not None and value not in choices:
            raise Refused(f"{option} {value}: choose from {', '.join(choices)}")
    wanted = ParkedFilter(group, topic, key, reason, state, type_name, limit)
    found = run_job(lambda settings: _list(settings, wanted, cause))
    if as_json:
        print_json(found)
        return
    shown = (
        ("count", "group", "topic", "reason", "error_type", "since", "error")
        if cause
        else ("id", "group", "topic", "partition", "offset", "key", "type", "reason", "state", "attempts", "error")
    )
    print_table("parked records", shown, ([row[name] for name in shown] for row in found), empty="none")


@app.command()
def show(
    record_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="As in the list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Show one record whole: its bytes, its headers, where it came from, and why it is here.

    Example: payday dead-letters show 17
    """
    found = run_job(lambda settings: _show(settings, record_id))
    if found is None:
        raise Failed(f"there is no parked record {record_id}; `payday dead-letters list` shows those that are there")
    if as_json:
        print_json(found)
    else:
        print_pairs(f"parked record {record_id}", found)


async def _list(settings: Settings, wanted: ParkedFilter, cause: bool) -> list[dict[str, Any]]:
    from streams.inspection.parked_list import by_cause, list_parked

    async with open_database(settings) as database, database.read() as connection:
        return await (by_cause if cause else list_parked)(connection, wanted)


async def _show(settings: Settings, record_id: int) -> dict[str, Any] | None:
    from streams.inspection.parked_list import show_parked

    async with open_database(settings) as database, database.read() as connection:
        return await show_parked(connection, record_id)
