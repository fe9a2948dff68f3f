"""`payday topics`: the topics on a real Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Failed
from streams.cli.opening import run_job
from streams.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.inspection.topics import TopicAdmin, TopicPlan, TopicState
    from streams.settings import Settings

__all__ = ["app", "check_topics"]

app = typer.Typer(no_args_is_help=True, help="Make the topics on Kafka, or check them.")

Partitions = Annotated[int, typer.Option(min=1, help="Partitions of each topic.")]
Replication = Annotated[
    int | None,
    typer.Option(min=1, help="Brokers that hold each partition [default: 3, or all there are].", show_default=False),
]
MinInsync = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Brokers that must have a record before it counts as sent [default: replication - 1].",
        show_default=False,
    ),
]
RetentionDays = Annotated[float, typer.Option(help="Days for which records are kept; -1 for ever.")]


@app.command()
def create(
    partitions: Partitions = 4,
    replication: Replication = None,
    min_insync: MinInsync = None,
    retention_days: RetentionDays = 7.0,
) -> None:
    """Make the topics that do not exist yet. Those that exist are left as they are.

    The number of partitions decides which one a key is in, so choose it once: as many as there will ever be
    instances that share the work.

    Example: payday topics create --partitions 12 --retention-days 14
    """

    async def job(settings: Settings) -> tuple[list[str], list[str]]:
        admin, names = _admin(settings)
        cluster = await admin.look(names)
        if cluster.is_embedded:
            return [], list(names)
        missing = [name for name, state in cluster.topics.items() if state is None]
        await admin.create(missing, _plan(partitions, replication, min_insync, retention_days))
        return missing, [name for name in names if name not in missing]

    made, there = run_job(job)
    for name in made:
        typer.echo(f"made {name}")
    if there:
        typer.echo(f"{len(there)} exist already")


@app.command()
def check(
    partitions: Partitions = 4,
    retention_days: RetentionDays = 7.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print {ok, brokers, problems, notes, topics}.")] = False,
) -> None:
    """Compare the topics on Kafka with what this version needs.

    Exits with 1 if one is missing, or is set so that records would be refused or lost. What merely differs from the
    options is noted.

    Example: payday topics check --json
    """
    from streams.inspection.topics import findings

    async def job(settings: Settings) -> Any:
        admin, names = _admin(settings)
        return await admin.look(names)

    cluster = run_job(job)
    if cluster.is_embedded:
        found: tuple[list[str], list[str]] = ([], ["the embedded broker makes a topic when it is first asked for"])
    else:
        found = findings(cluster.topics, _plan(partitions, None, None, retention_days))
    problems, notes = found
    if as_json:
        from dataclasses import asdict

        topics = {name: None if state is None else asdict(state) for name, state in cluster.topics.items()}
        print_json(
            {
                "ok": not problems,
                "brokers": cluster.brokers,
                "problems": problems,
                "notes": notes,
                "topics": topics,
            }
        )
        raise typer.Exit(1 if problems else 0)
    if not cluster.is_embedded:
        rows = [(name, *((None,) * 4 if state is None else _row(state))) for name, state in cluster.topics.items()]
        print_table("topics", ("topic", "partitions", "replicas", "min in sync", "retention days"), rows)
    for note in notes:
        typer.echo(f"note: {note}")
    if problems:
        missing = any(state is None for state in cluster.topics.values())
        advice = "; `payday topics create` makes what is missing" if missing else ""
        raise Failed("; ".join(problems) + advice)
    typer.echo("the topics are as they should be")


async def check_topics(settings: Settings) -> None:
    """Refuse to start on a Kafka without the topics; say what is dangerous about them.

    A Kafka that does not answer is an outage, which the app waits out by itself.

    Raises:
        Failed: topics are missing.
    """
    from streams.inspection.log_ends import BrokerUnreachable
    from streams.inspection.topics import findings

    admin, names = _admin(settings, timeout_seconds=5.0)
    try:
        cluster = await admin.look(names)
    except BrokerUnreachable:
        return
    if cluster.is_embedded:
        return
    missing = [name for name, state in cluster.topics.items() if state is None]
    if missing:
        raise Failed(
            f"Kafka at {settings.bootstrap_servers()} lacks the topics {', '.join(missing)}: "
            "make them with `payday topics create`"
        )
    problems, _ = findings(cluster.topics, _plan(4, None, None, 7.0))
    for problem in (*problems, *_forgotten_too_soon(cluster.topics, settings.retention_days)):
        say(f"payday run: {problem}")


def _forgotten_too_soon(topics: Mapping[str, TopicState | None], retention_days: float) -> list[str]:
    """Topics that keep records for longer than the inbox knows them: read again, they would be handled again."""
    from streams.inspection.topics import DAY_MS

    too_long = [
        name
        for name, state in topics.items()
        if state is not None and not 0 <= state.retention_ms < retention_days * DAY_MS
    ]
    if not too_long:
        return []
    names = ", ".join(too_long)
    kept = f"PAYDAY_RETENTION_DAYS={retention_days:g} does not exceed what these topics keep: {names}"
    return [f"{kept}; a record that is read again after that time would be handled again"]


def _admin(settings: Settings, **options: float) -> tuple[TopicAdmin, list[str]]:
    from contracts.catalog import topics
    from streams.inspection.topics import TopicAdmin

    admin = TopicAdmin(settings.bootstrap_servers(), **options)
    return admin, [settings.topic_prefix + name for name in topics()]


def _plan(partitions: int, replication: int | None, min_insync: int | None, retention_days: float) -> TopicPlan:
    from streams.inspection.topics import TopicPlan

    return TopicPlan(partitions, replication, min_insync, retention_days)


def _row(state: Any) -> tuple[object, ...]:
    retention = "for ever" if state.retention_ms < 0 else f"{state.retention_ms / 86_400_000:g}"
    return state.partitions, state.replication, state.min_insync_replicas, retention
