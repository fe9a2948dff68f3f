"""`payday events`: what stands in the topics, decoded."""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.errors import Refused
from streams.cli.opening import load
from streams.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.settings import Settings

__all__ = ["events"]

TABLE_MAX_ROWS = 100_000


def events(
    topic: Annotated[str | None, typer.Option(help="Only this topic; repeat with commas.", show_default=False)] = None,
    type_name: Annotated[str | None, typer.Option("--type", help="Only this type.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="Only this record key.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after so many.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """Read the topics from their beginning to where they end now, without a consumer group: nobody notices.

    Within a partition the order is Kafka's. What is no JSON is shown as it is.

    Example: payday events --topic tasks.events --type tasks.task-completed.v1
    """
    from contracts.catalog import entry_for
    from streams.inspection.log import EventFilter, read_events

    settings = load()
    if type_name is not None:
        entry_for(type_name)
    found = read_events(settings.bootstrap_servers(), _topics(settings, topic), EventFilter(type_name, key))
    found = islice(found, limit)
    if as_json:
        _print_array(found)
        return
    print_table(
        "events",
        ("topic", "at", "time", "key", "type", "data"),
        (
            (
                one["topic"],
                f"{one['partition']}@{one['offset']}",
                one["time"] or one["timestamp"],
                one["key"],
                one["type"],
                json.dumps(one["data"], ensure_ascii=False),
            )
            for one in islice(found, TABLE_MAX_ROWS)
        ),
        empty="none",
    )


def _topics(settings: Settings, named: str | None) -> set[str]:
    """Full names, given with or without the prefix."""
    from contracts.catalog import topics

    known = {settings.topic_prefix + name for name in topics()}
    if named is None:
        return known
    wanted = {part.strip() for part in named.split(",")}
    wanted = {name if name in known else settings.topic_prefix + name for name in wanted}
    if unknown := sorted(wanted - known):
        raise Refused(f"--topic {unknown[0]}: there is no such topic; choose from {', '.join(sorted(known))}")
    return wanted


def _print_array(values: Iterable[dict[str, Any]]) -> None:
    """One JSON array, written as it is read: there may be millions."""
    separator = "["
    for value in values:
        sys.stdout.write(separator + json.dumps(value, ensure_ascii=False))
        separator = ",\n"
    sys.stdout.write(("[" if separator == "[" else "") + "]\n")
