"""What a person sees of the demo: a live table while it runs, a summary at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from types import TracebackType

    from streams.cli.demo_counts import Counts

__all__ = ["DemoView"]

WORDS = {
    "sent": "messages the company sent",
    "consumed": "records taken, over all groups",
    "handled": "handled",
    "duplicate": "duplicates, without effect",
    "parked": "parked: kept whole, to be looked at",
    "dead": "of which dead",
    "published": "events published",
    "outbox_unsent": "events still to be published",
    "transactions": "postings on workers' accounts",
    "payouts_confirmed": "payouts that the bank has made",
    "payouts_failed": "payouts that it refused: back in the balance",
    "payout_total_minor": "paid, by our books (cents)",
    "bank_total_minor": "paid, by the bank's report (cents)",
    "audit_ok": "the books balance and everything was read",
}


class DemoView:
    """Draws on standard error, so that standard output is the summary alone.

    Args:
        live: draw a table that changes; otherwise a line now and then.
    """

    def __init__(self, *, live: bool) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if live else None
        self._said = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """What is going on."""
        if text == self._said:
            return
        self._said = text
        if self._live is None:
            sys.stderr.write(f"{text}\n")
        else:
            self._live.update(Table(title=text))

    def update(self, sent: int, counts: Counts) -> None:
        """Redraw the table."""
        if self._live is not None:
            self._live.update(_table(self._said, {"sent": sent, **_values(counts)}))

    def report(self, sent: int, counts: Counts) -> None:
        """A line for those who have no live table."""
        if self._live is None:
            sys.stderr.write(
                f"sent {sent}, handled {counts.handled}, duplicates {counts.duplicate}, parked {counts.parked}, "
                f"published {counts.published}, unsent {counts.outbox_unsent}, postings {counts.transactions}\n"
            )

    @staticmethod
    def print_summary(summary: dict[str, Any]) -> None:
        """The end of the demo, on standard output."""
        Console().print(_table("A day at a company", summary))


def _values(counts: Counts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in counts.__slots__}


def _table(title: str, values: dict[str, Any]) -> Table:
    table = Table(title=title, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    for name, value in values.items():
        shown = ("yes" if value else "NO") if isinstance(value, bool) else f"{value:,}"
        table.add_row(WORDS[name], shown)
    return table
