"""`payday run`: the app, until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Refused
from streams.cli.opening import load
from streams.cli.output import say
from streams.cli.signals import StopSignals, leave_cleanly_when_stopped

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["run"]

JOIN_POLL_SECONDS = 0.05


def run(
    only: Annotated[
        str,
        typer.Option(help="Only these parts, separated by commas: tasks,accounting,payouts,relay.", show_default=False),
    ] = "",
) -> None:
    """Run the app: consume, handle, publish.

    Prints one line, `ready`, when it has joined its consumer groups. SIGTERM or Ctrl-C drains: what was begun is
    finished, the outbox is published, and it exits with 0; a second one ends it at once.

    Example: payday run --only tasks,relay
    """
    leave_cleanly_when_stopped()
    asyncio.run(_run(load(), only))


async def _run(settings: Settings, only: str) -> None:
    from streams.app import PARTS
    from streams.cli.serving import serving

    parts = tuple(part.strip() for part in only.split(",") if part.strip()) or PARTS
    for part in parts:
        if part not in PARTS:
            raise Refused(f"--only {only}: there is no part {part!r}; choose from {', '.join(PARTS)}")
    stop = StopSignals()
    async with serving(settings, parts) as payday:
        while not payday.intake.joined and not stop.asked:
            await stop.wait(JOIN_POLL_SECONDS)
        if not stop.asked:
            if "payouts" in parts and payday.bank is None:
                say("payday run: payouts are reserved but not sent: PAYDAY_BANK_URL is not set")
            if payday.http is not None:
                say(f"payday run: health and metrics at {payday.http.url}/actuator")
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        await stop.wait()
