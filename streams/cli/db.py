"""`payday db`: the database's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Failed
from streams.cli.opening import run_job
from streams.cli.output import print_json

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.storage.migrate import SchemaState

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make the database's tables, or check them.")


@app.command()
def upgrade() -> None:
    """Bring the database to this version's tables, in one transaction.

    Stop the app first. Nothing happens to a database that is up to date.

    Example: payday db upgrade
    """
    before, after = run_job(_upgrade)
    was = before.current or "no tables"
    typer.echo(f"at {after.current} already" if before.matches else f"upgraded from {was} to {after.current}")


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print {ok, current, expected, differences}.")] = False,
) -> None:
    """Compare the database's tables with this version's: the revision, and every column and index.

    Exits with 1 when they differ.

    Example: payday db check
    """
    state: SchemaState = run_job(_check)
    if as_json:
        differences = list(state.differences)
        found = {"ok": state.matches, "current": state.current, "expected": state.expected}
        print_json({**found, "differences": differences})
        raise typer.Exit(0 if state.matches else 1)
    if state.matches:
        typer.echo(f"the tables are those of {state.expected}")
        return
    if state.current != state.expected:
        raise Failed(
            f"the database is at {state.current or 'no version'}, not {state.expected}: run `payday db upgrade`"
        )
    raise Failed("the tables are not those of this version: " + "; ".join(state.differences))


async def _upgrade(settings: Settings) -> tuple[SchemaState, SchemaState]:
    from streams.storage.database import Database
    from streams.storage.errors import DatabaseUnavailable
    from streams.storage.migrate import schema_state
    from streams.storage.migrate import upgrade as migrate

    database = Database(settings.database)
    try:
        if database.path is not None:
            try:
                database.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseUnavailable(f"{database.described} cannot be made: {error}") from error
        before = await schema_state(database)
        if not before.matches:
            await migrate(database)
        return before, await schema_state(database)
    finally:
        await database.close()


async def _check(settings: Settings) -> SchemaState:
    from streams.app import ALL_METADATA
    from streams.cli.opening import existing_database
    from streams.storage.migrate import schema_state

    async with existing_database(settings) as database:
        return await schema_state(database, ALL_METADATA)
