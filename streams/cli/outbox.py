"""`payday outbox`: what is to be published, why some of it was not, and trying again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Refused
from streams.cli.opening import open_database, run_job
from streams.cli.output import print_json, print_table

if TYPE_CHECKING:
    from streams.outbox.summary import Choice
    from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What is committed and waits to be published.")

LIST_ROWS = 50
Topic = Annotated[str | None, typer.Option(help="Of this topic, by its full name.", show_default=False)]
Key = Annotated[str | None, typer.Option(help="Of this record key.", show_default=False)]


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {unsent, oldest_age_seconds, breaker, topics, lanes}.")
    ] = False,
) -> None:
    """Show how much is unsent, since when, of which topics and lanes, and the relays' circuit breaker.

    Works while Kafka is away. breaker: of the relays that run, the one that is worst off; none where none runs.

    Example: payday outbox status --json
    """
    found = run_job(_status)
    if as_json:
        print_json(found)
        return
    age = found["oldest_age_seconds"]
    typer.echo(
        f"{found['unsent']} unsent"
        + ("" if age is None else f", the oldest for {age:.1f} s")
        + f"; breaker: {found['breaker'] or 'no relay runs'}"
    )
    if found["topics"]:
        columns = list(found["topics"][0])
        print_table("topics", columns, ([one[name] for name in columns] for one in found["topics"]))
        columns = list(found["lanes"][0])
        print_table("lanes", columns, ([one[name] for name in columns] for one in found["lanes"]))


@app.command("list")
def list_rows(
    topic: Topic = None,
    key: Key = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = LIST_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """Show unsent events in the order in which they were written, and why they were refused.

    Example: payday outbox list --refused
    """
    found = run_job(lambda settings: _list(settings, _choice(topic, key, refused=refused), limit))
    if as_json:
        print_json(found)
    elif found:
        columns = ("id", "topic", "key", "type", "created_at", "attempts", "next_attempt_at", "error")
        print_table("unsent", columns, ([one[name] for name in columns] for one in found))
    else:
        typer.echo("nothing")


@app.command()
def retry(
    topic: Topic = None,
    key: Key = None,
    every: Annotated[bool, typer.Option("--all", help="Whatever was refused.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print {retried, dry_run}.")] = False,
) -> None:
    """Try what was refused now instead of at its next attempt. Its place before later events of its key stays.

    Example: payday outbox retry --topic tasks.events --dry-run
    """
    if every == (topic is not None or key is not None):
        raise Refused("say which: --topic, --key or both; or --all")
    found = run_job(lambda settings: _retry(settings, _choice(topic, key, refused=True), dry_run=dry_run))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['retried']} {'would be' if dry_run else 'are'} tried now")


def _choice(topic: str | None, key: str | None, *, refused: bool) -> Choice:
    from streams.outbox.summary import Choice

    return Choice(topic, key.encode("utf-8", "surrogateescape") if key is not None else None, refused)


async def _status(settings: Settings) -> dict[str, Any]:
    from streams.inspection.status import outbox_status
    from streams.outbox.summary import by_lane, by_topic

    async with open_database(settings) as database, database.read() as connection:
        found = await outbox_status(connection)
        topics = [
            {
                "topic": one.topic,
                "unsent": one.unsent,
                "oldest": _time(one.oldest_created_at_ms),
                "refused": one.held,
                "expired": one.expired,
                "next_attempt_at": _time(one.next_attempt_at_ms),
            }
            for one in await by_topic(connection)
        ]
        lanes = [one._asdict() for one in await by_lane(connection)]
    return {**found, "topics": topics, "lanes": lanes}


async def _list(settings: Settings, choice: Choice, limit: int) -> list[dict[str, Any]]:
    from streams.outbox.summary import list_unsent

    async with open_database(settings) as database, database.read() as connection:
        rows = await list_unsent(connection, choice, limit)
    return [
        {
            "id": row.id,
            "topic": row.topic,
            "key": None if row.key is None else row.key.decode("utf-8", "backslashreplace"),
            "lane": row.lane,
            "type": row.type,
            "message_id": row.message_id,
            "created_at": _time(row.created_at_ms),
            "attempts": row.attempts,
            "next_attempt_at": _time(row.next_attempt_at_ms),
            "expired_at": _time(row.expired_at_ms),
            "error": row.error,
        }
        for row in rows
    ]


async def _retry(settings: Settings, choice: Choice, *, dry_run: bool) -> dict[str, Any]:
    from streams.outbox.summary import retry_now
    from streams.outbox.wakeup import notify_relays

    async with open_database(settings) as database, database.write() as connection:
        count = await retry_now(connection, choice, dry_run=dry_run)
        if not dry_run:
            await notify_relays(connection)
    return {"retried": count, "dry_run": dry_run}


def _time(time_ms: int | None) -> str | None:
    from streams.outbox.envelope import format_time

    return None if time_ms is None else format_time(time_ms)
