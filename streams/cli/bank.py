"""`payday bank`: the simulated bank on its own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import load
from streams.cli.output import say
from streams.cli.signals import StopSignals, leave_cleanly_when_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.embedded.bank import Bank
    from streams.embedded.bank_faults import Faults

__all__ = ["bank"]

HOST = "127.0.0.1"
FILE = "bank.db"


def bank(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="On loopback; 0 for a free one.")] = 0,
    file: Annotated[
        Path | None, typer.Option(help="The bank's own SQLite file; bank.db in the home.", show_default=False)
    ] = None,
    key_life: Annotated[
        float, typer.Option(min=0, help="Seconds for which an idempotency key is remembered.")
    ] = 86_400.0,
    unique_references: Annotated[
        bool,
        typer.Option(
            help="A reference books once for ever; without, it books again once its key is forgotten.",
        ),
    ] = True,
    fail: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, may be repeated, as in PUT /faults.", show_default=False),
    ] = None,
) -> None:
    """Run a simulated bank, for trying out and for tests. It moves no money.

    The first line on standard output is its URL. It keeps its book in a file of its own and runs until it is stopped
    (Ctrl-C, SIGTERM).

    Faults: delay_seconds, reply_delay_seconds; fail_before, fail_after, drop_reply (probabilities, drawn with seed);
    fail_first (so many attempts of each key); refuse_accounts (a JSON list); down (true). At run time: GET and PUT
    /faults, and POST /returns {"reference": ...} lets money come back.

    Example: payday bank --port 8090 --fail drop_reply=0.1 --fail seed=7
    """
    leave_cleanly_when_stopped()
    faults = _faults(fail or ())
    settings = load()
    asyncio.run(_serve(port, file or settings.home / FILE, key_life, faults, unique_references=unique_references))


async def _serve(port: int, file: Path, key_life_seconds: float, faults: Faults, *, unique_references: bool) -> None:
    from streams.embedded.bank import LIMITS, Bank
    from streams.embedded.bank_store import BankStore

    stop = StopSignals()
    try:
        store = BankStore(file)
    except (sqlite3.Error, OSError) as error:
        raise Failed(f"the bank's book {file} cannot be opened: {error}") from error
    try:
        bank_ = Bank(store, key_life_seconds=key_life_seconds, unique_references=unique_references, faults=faults)
        await _answer(bank_, port, LIMITS, stop)
    finally:
        store.close()


async def _answer(bank_: Bank, port: int, limits: str, stop: StopSignals) -> None:
    from streams.http.server import HttpServer, PortInUse

    server = HttpServer(bank_.app(), HOST, port)
    try:
        server.start()
    except PortInUse:
        raise Failed(f"cannot listen on {HOST}:{port}: give another --port, or 0 for a free one") from None
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    say(f"payday bank: {limits}")
    await stop.wait()
    await server.stop()


def _faults(options: Sequence[str]) -> Faults:
    """`NAME=VALUE` options as faults; a value is JSON or a plain word."""
    from pydantic import ValidationError

    from streams.embedded.bank_faults import Faults

    values: dict[str, object] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise Refused(f"--fail {option}: should be NAME=VALUE; there are {', '.join(Faults.model_fields)}")
        try:
            values[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[name.replace("-", "_")] = value
    try:
        return Faults.model_validate(values)
    except ValidationError as error:
        (first, *_others) = error.errors()
        raise Refused(f"--fail {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
