"""`payday outbox`: what is to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.opening import open_database, run_job
from streams.cli.output import print_json

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What is committed and waits to be published.")


@app.callback()
def _group() -> None:
    """A group, though it has one command so far."""


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print {unsent, oldest_age_seconds, breaker}.")] = False,
) -> None:
    """Show how much is unsent, and since when. Works while Kafka is away.

    Example: payday outbox status --json
    """
    found = run_job(_status)
    if as_json:
        print_json(found)
        return
    age = found["oldest_age_seconds"]
    typer.echo(f"{found['unsent']} unsent" + ("" if age is None else f", the oldest for {age:.1f} s"))


async def _status(settings: Settings) -> dict[str, Any]:
    from streams.inspection.status import outbox_status

    async with open_database(settings) as database, database.read() as connection:
        return await outbox_status(connection)
