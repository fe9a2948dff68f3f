"""`payday dead-letters`: the records that could not be handled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import open_database, run_job
from streams.cli.output import print_json, print_pairs, print_table, say

if TYPE_CHECKING:
    from streams.inspection.parked_list import ParkedFilter
    from streams.intake.operate import Actor, Selection
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


Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", min=1, help="As in the list.", show_default=False)]
Group = Annotated[str | None, typer.Option(help="Of this group, full name.", show_default=False)]
Topic = Annotated[str | None, typer.Option(help="Of this topic, full name.", show_default=False)]
Type = Annotated[str | None, typer.Option("--type", help="With this ce_type.", show_default=False)]
ReasonName = Annotated[str | None, typer.Option("--reason", help="failed, invalid, ...", show_default=False)]
Key = Annotated[str | None, typer.Option(help="With this record key.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All unresolved records.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Why = Annotated[str | None, typer.Option(help="Kept with the action.", show_default=False)]
Who = Annotated[str | None, typer.Option(help="Kept with the action; by default you on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


@app.command()
def replay(
    ids: Ids = None,
    group: Group = None,
    topic: Topic = None,
    type_name: Type = None,
    reason: ReasonName = None,
    key: Key = None,
    everything: All = False,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the app has tried them.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Wait at most so many seconds.")] = 60.0,
    why: Why = None,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Let records be tried now: these ids, or those that match, or --all. A running `payday run` does it.

    Each key keeps its order: its oldest record is tried, and those behind it follow by themselves. A record that waits
    behind another one is refused alone. Exit code 1: something was refused, or with --wait something failed again.

    Example: payday dead-letters replay --group payday.tasks --reason failed --wait
    """
    from streams.cli import dead_letter_actions as actions

    selection = _selection(ids, group, topic, type_name, reason, key, everything)
    actor = _actor(who, why)
    found = run_job(
        lambda settings: actions.replay(
            settings, selection, actor, dry_run=dry_run, wait_seconds=timeout if wait else None, quiet=as_json
        )
    )
    if as_json:
        print_json(found)
    else:
        what = "would be tried" if dry_run else "will be tried by the running app"
        typer.echo(f"{len(found['replayed'])} records {what}, {found['followers']} follow them")
        for name, text in (("resolved", "resolved"), ("failed", "failed again"), ("not_tried", "not tried in time")):
            if found.get(name):
                typer.echo(f"{len(found[name])} {text}: {', '.join(map(str, found[name][:20]))}")
        _tell_refused(found["refused"])
    if found["refused"] or found.get("failed") or found.get("not_tried"):
        raise typer.Exit(1)


@app.command()
def edit(
    record_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="As in the list.")],
    value: Annotated[str | None, typer.Option(help="The new body, as text.", show_default=False)] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The new body, as bytes.", show_default=False)
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, set or replaced; may be repeated.", show_default=False)
    ] = None,
    why: Why = None,
    who: Who = None,
    force: Annotated[bool, typer.Option("--force", help="Also if its contract refuses it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a record another body or other headers to be handled with. The original stays; replay it afterwards.

    Its ce_id and ce_source cannot change: by them a repeat is known.

    Example: payday dead-letters edit 17 --file mended.json --why 'the title was missing'
    """
    from streams.cli import dead_letter_actions as actions

    if why is None:
        raise Refused("--why: say why it is edited; that is kept with it")
    if value is not None and file is not None:
        raise Refused("give --value or --file, not both")
    headers: dict[str, str] = {}
    for one in header or ():
        name, separator, content = one.partition("=")
        if not separator:
            raise Refused(f"--header {one}: write it as NAME=VALUE")
        headers[name] = content
    body = file.read_bytes() if file is not None else None if value is None else value.encode()
    if body is None and not headers:
        raise Refused("nothing to change: give --value, --file or --header")
    actor = _actor(who, why)
    found = run_job(lambda settings: actions.edit(settings, record_id, actor, body, headers, force=force))
    if as_json:
        print_json(found)
    else:
        print_pairs(f"record {record_id}", found)
        typer.echo(f"the original is kept; payday dead-letters replay {record_id} lets it be handled as edited")


@app.command()
def discard(
    ids: Ids = None,
    group: Group = None,
    topic: Topic = None,
    type_name: Type = None,
    reason: ReasonName = None,
    key: Key = None,
    everything: All = False,
    dry_run: DryRun = False,
    why: Why = None,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Give records up for good: these ids, or those that match, or --all. Needs --why. Those behind them go on.

    They stay in the database, and are duplicates if they come again.

    Example: payday dead-letters discard 17 --why 'a test that went to production'
    """
    from streams.cli import dead_letter_actions as actions

    if why is None:
        raise Refused("--why: say why; a discarded record is never handled")
    selection = _selection(ids, group, topic, type_name, reason, key, everything)
    actor = _actor(who, why)
    found = run_job(lambda settings: actions.discard(settings, selection, actor, dry_run=dry_run, quiet=as_json))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{len(found['discarded'])} records {'would be discarded' if dry_run else 'are discarded'}")
        _tell_refused(found["refused"])
    if found["refused"]:
        raise typer.Exit(1)


@app.command("acknowledge-gaps")
def acknowledge_gaps(
    group: Group = None,
    topic: Topic = None,
    why: Why = None,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Say that somebody has dealt with records that are lost or skipped: their alarms end, the counts stay.

    Example: payday dead-letters acknowledge-gaps --why 'sent again by the shop'
    """
    from streams.cli import dead_letter_actions as actions

    if why is None:
        raise Refused("--why: say what was done about the records that are gone")
    actor = _actor(who, why)
    found = run_job(lambda settings: actions.acknowledge(settings, actor, group, topic))
    if as_json:
        print_json(found)
    else:
        columns = ("group", "topic", "partition", "lost", "skipped")
        print_table("acknowledged", columns, ([row[name] for name in columns] for row in found), empty="nothing")


@app.command()
def export(
    ids: Ids = None,
    group: Group = None,
    topic: Topic = None,
    type_name: Type = None,
    reason: ReasonName = None,
    key: Key = None,
    everything: All = False,
    file: Annotated[
        Path | None, typer.Option("--file", dir_okay=False, help="By default standard output.", show_default=False)
    ] = None,
) -> None:
    """Write unresolved records as JSONL: key, value and headers in base64, and why they are here.

    Example: payday dead-letters export --all --file dead.jsonl
    """
    from streams.cli import dead_letter_actions as actions

    selection = _selection(ids, group, topic, type_name, reason, key, everything)
    count = run_job(lambda settings: actions.export(settings, selection, file, quiet=file is None))
    say(f"{count} records exported")


def _selection(
    ids: list[int] | None,
    group: str | None,
    topic: str | None,
    type_name: str | None,
    reason: str | None,
    key: str | None,
    everything: bool,
) -> Selection:
    from streams.cli.dead_letter_actions import read_key
    from streams.intake.operate import Selection
    from streams.intake.record import Reason

    reasons = tuple(one.value for one in Reason)
    if reason is not None and reason not in reasons:
        raise Refused(f"--reason {reason}: choose from {', '.join(reasons)}")
    selection = Selection(tuple(ids or ()), group, topic, type_name, reason, read_key(key))
    if selection.is_everything != everything:
        raise Refused(
            "--all leaves nothing to choose: give it alone"
            if everything
            else "say which records: ids, --group, --topic, --type, --reason, --key, or --all"
        )
    return selection


def _actor(who: str | None, why: str | None) -> Actor:
    from streams.cli.dead_letter_actions import somebody
    from streams.intake.operate import Actor

    return Actor(who or somebody(), why)


def _tell_refused(refused: list[dict[str, Any]]) -> None:
    for one in refused:
        say(f"record {one['id']}: {one['why']}")


async def _list(settings: Settings, wanted: ParkedFilter, cause: bool) -> list[dict[str, Any]]:
    from streams.inspection.parked_list import by_cause, list_parked

    async with open_database(settings) as database, database.read() as connection:
        return await (by_cause if cause else list_parked)(connection, wanted)


async def _show(settings: Settings, record_id: int) -> dict[str, Any] | None:
    from streams.inspection.parked_list import show_parked

    async with open_database(settings) as database, database.read() as connection:
        return await show_parked(connection, record_id)
