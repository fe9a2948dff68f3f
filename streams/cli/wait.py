"""`payday wait`: until everything that was sent has had its effects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Refused
from streams.cli.opening import open_broker, open_database, readings_of, run_job
from streams.cli.output import print_json, work_in_progress

if TYPE_CHECKING:
    from streams.inspection.settled import Look
    from streams.settings import Settings

__all__ = ["wait", "wait_until_settled"]


def wait(
    settled: Annotated[bool, typer.Option("--settled", help="Until every group has read everything.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Give up after this many seconds.")] = 60.0,
    groups: Annotated[str, typer.Option(help="Only these groups, separated by commas: tasks,accounting.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print {settled, seconds}.")] = False,
) -> None:
    """Wait until everything has settled.

    Settled means, seen twice in a row: every group that has ever made progress has read its topics to their ends, no
    retry is due, no reassignment and no payout is under way, and nothing in the outbox is unsent. Without a bank here
    (PAYDAY_BANK_URL), payouts that are only waiting to be sent do not count.

    Exits with 0 when that is so, with 1 when the time is up, saying what is left.

    Example: payday wait --settled --timeout 30
    """
    if not settled:
        raise Refused("say what to wait for: payday wait --settled")
    names = tuple(name.strip() for name in groups.split(",") if name.strip())
    started = time.monotonic()
    run_job(lambda settings: wait_until_settled(settings, timeout, names))
    seconds = time.monotonic() - started
    if as_json:
        print_json({"settled": True, "seconds": round(seconds, 3)})
    else:
        typer.echo(f"settled after {seconds:.1f} s")


async def wait_until_settled(
    settings: Settings, timeout_seconds: float, groups: tuple[str, ...] = (), *, quiet: bool = False
) -> None:
    """Look until everything has settled, with a bar on a terminal unless it is to be quiet.

    Raises:
        NotSettled: the time was up.
    """
    from streams.inspection.settled import SettledWatch

    async with open_database(settings) as database, open_broker(settings) as broker:
        watch = SettledWatch(
            database,
            broker,
            readings_of(settings),
            group_prefix=settings.group_prefix,
            groups=groups,
            pays=settings.bank_url is not None,
        )
        with work_in_progress("settling", quiet=quiet) as show:
            most = 0

            def on_look(look: Look) -> None:
                nonlocal most
                most = max(most, look.left)
                show(most - look.left, most)

            await watch.wait(timeout_seconds, on_look)
