"""What commands print: one JSON value for scripts, tables for people, progress on a terminal."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["money", "print_json", "print_pairs", "print_table", "say", "times", "work_in_progress"]


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    """A line for a person, on standard error."""
    sys.stderr.write(text + "\n")


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], empty: str = "nothing") -> None:
    """A table on standard output; numbers stand to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    cells = [list(row) for row in rows]
    if not cells:
        sys.stdout.write(f"{title}: {empty}\n")
        return
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*("" if value is None else escape(_printable(str(value))) for value in row))
    wide = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=wide, soft_wrap=False).print(table)


def print_pairs(title: str, pairs: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    print_table(title, ("", ""), ((name, value) for name, value in pairs.items()))


def money(amount_minor: int, currency: str) -> str:
    """An amount for a person: `-12.50 USD`."""
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{abs(amount_minor) // 100:,}.{abs(amount_minor) % 100:02} {currency}"


def times(time_ms: int | None) -> str | None:
    """Milliseconds since the epoch as RFC 3339."""
    from streams.outbox.envelope import format_time

    return None if time_ms is None else format_time(time_ms)


@contextmanager
def work_in_progress(
    title: str, total: int | None = None, *, quiet: bool = False
) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, on a terminal only. Gives a function that takes what is done and the total, if known."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, all_of_it: bar.update(task, completed=done, total=all_of_it)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
