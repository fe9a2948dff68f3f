"""`payday events`: what stands in the topics, decoded."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.errors import Refused
from streams.cli.opening import load

__all__ = ["events"]

SHOWN_BODY_CHARACTERS = 300


def events(
    topic: Annotated[str | None, typer.Option(help="Only this topic; repeat with commas.", show_default=False)] = None,
    type_name: Annotated[str | None, typer.Option("--type", help="Only this type.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="Only this record key.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after so many.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """Read the topics from their beginning to where they end now, without a consumer group: nobody notices.

    Within a partition the order is Kafka's; across partitions it is by time. What does not decode is shown as it is.

    Example: payday events --topic tasks.events --type tasks.task-completed.v1
    """
    from contracts.catalog import entry_for, topics

    settings = load()
    if type_name is not None:
        entry_for(type_name)
    known = {settings.topic_prefix + name for name in topics()}
    wanted = known if topic is None else {part.strip() for part in topic.split(",")}
    wanted = {name if name in known else settings.topic_prefix + name for name in wanted}
    if unknown := sorted(wanted - known):
        raise Refused(f"--topic {unknown[0]}: there is no such topic; choose from {', '.join(sorted(known))}")
