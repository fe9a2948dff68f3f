"""`payday contracts`: the messages that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.output import print_json, print_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The messages: types, topics, fields.")


@app.callback()
def _group() -> None:
    """A group, though it has one command so far."""


@app.command("list")
def list_contracts(
    as_json: Annotated[bool, typer.Option("--json", help="Print [{type, kind, topic, source, fields}].")] = False,
) -> None:
    """List every type with its topic and fields; a field with ? may be left out.

    Example: payday contracts list --json
    """
    from contracts.catalog import catalog
    from streams.cli.opening import load

    prefix = load().topic_prefix
    entries = [
        {
            "type": entry.type_name,
            "kind": entry.kind,
            "topic": prefix + entry.topic,
            "source": entry.source,
            "fields": [
                name if field.is_required() else f"{name}?" for name, field in entry.contract.model_fields.items()
            ],
        }
        for entry in catalog()
    ]
    if as_json:
        print_json(entries)
        return
    rows = ((entry["type"], entry["kind"], entry["topic"], ", ".join(entry["fields"] or ())) for entry in entries)
    print_table("contracts", ("type", "kind", "topic", "fields"), rows)
