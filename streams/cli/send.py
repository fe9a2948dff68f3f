"""`payday send`: publish messages of any catalogued type, validated first."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from streams.cli.errors import Failed, Refused
from streams.cli.opening import load, open_broker, open_database
from streams.cli.output import print_json, say, work_in_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.cli.delivery import Delivery
    from streams.cli.sending import Line, Sendable
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["send"]

CHUNK_RECORDS = 500
SHOWN_BAD_LINES = 10


def send(
    type_name: Annotated[
        str, typer.Argument(metavar="[TYPE]", help="The message's type; payday contracts list shows them.")
    ] = "",
    data: Annotated[str | None, typer.Option(help="The message's body as JSON.", show_default=False)] = None,
    file: Annotated[
        Path | None, typer.Option(help="JSON lines; - reads standard input.", show_default=False, allow_dash=True)
    ] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="With --data: its id, a UUID.", show_default=False)
    ] = None,
    time: Annotated[str | None, typer.Option(help="With --data: its time, RFC 3339.", show_default=False)] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Leave bad lines out, send the rest.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that a wait line may take.")] = 60.0,
    deliver_within: Annotated[
        float, typer.Option(min=0.1, help="Seconds until an acknowledgement must be there; what has none is stored.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print {sent, stored, skipped, ids}.")] = False,
) -> None:
    r"""Send one message, or a file of them with one JSON object a line.

    \b
    {"type": "tasks.create-task.v1", "data": {...}, "id": "...", "time": "..."}

    id and time may be left out; with an id, sending the line again has no second effect. A line {"wait": "settled"}
    makes it go on only when everything before has had its effects.

    Everything is checked against the contracts first: one bad line, and nothing of the file is sent (exit code 2).

    What Kafka does not acknowledge is stored in the app's database, if there is one, and goes out from there, in order,
    when the app runs and Kafka is back: that is "stored", and no error.

    Example: payday send accounting.close-period.v1 --data '{"period": "2026-11-22"}'
    """
    if (data is None) == (file is None):
        raise Refused("give either --data JSON (with a TYPE) or --file F.jsonl; see `payday send --help`")
    if data is not None and not type_name:
        raise Refused("--data needs a type: payday send TYPE --data JSON (payday contracts list shows the types)")
    if file is not None and (message_id is not None or time is not None):
        raise Refused("--id and --time go with --data; in a file each line has its own")
    settings = load()
    if data is not None:
        lines = _one(type_name, data, message_id, time)
        result = asyncio.run(_Sender(settings, timeout, deliver_within, keep_ids=as_json).send(lambda: lines, 1))
    else:
        assert file is not None, "one of the two is given"
        with _opened(file) as source:
            total, skipped = _validated(file, source, type_name, skip_invalid=skip_invalid)
            sender = _Sender(settings, timeout, deliver_within, keep_ids=as_json)
            result = asyncio.run(sender.send(lambda: _again(source, type_name), total)) | {"skipped": skipped}
    if as_json:
        print_json(result)
    else:
        left_out = f", {result['skipped']} bad lines left out" if result["skipped"] else ""
        stored = f", stored {result['stored']}" if result["stored"] else ""
        typer.echo(f"sent {result['sent']}{stored}{left_out}")


class _Sender:
    """Sends lines that have been validated."""

    def __init__(
        self, settings: Settings, wait_seconds: float, deliver_within_seconds: float, *, keep_ids: bool
    ) -> None:
        self._settings = settings
        self._wait_seconds = wait_seconds
        self._deliver_within_seconds = deliver_within_seconds
        self._keep_ids = keep_ids
        self._ids: list[str] = []
        self._database: Database | None = None

    async def send(self, lines: Callable[[], Iterable[Line]], total: int) -> dict[str, Any]:
        """Send them all; what `--json` prints.

        Raises:
            Failed: something was neither acknowledged nor stored.
            NotSettled: a wait line took too long.
        """
        from streams.app import outbox_limits
        from streams.cli.delivery import Delivery
        from streams.cli.pace import pace_of
        from streams.embedded.pacing import STALL_SECONDS
        from streams.outbox.capacity import Capacity

        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(open_broker(self._settings))
            late = partial(self._late_database, stack)
            pace = pace_of(self._settings, broker, late, stall_seconds=STALL_SECONDS)
            database = await late()
            delivery = Delivery(
                broker.bootstrap_servers,
                self._settings.topic_prefix,
                pace,
                self._deliver_within_seconds,
                database,
                Capacity(database, outbox_limits(self._settings)) if database is not None else None,
            )
            stack.push_async_callback(delivery.close)
            with work_in_progress("sending", total) as show:
                await self._send_all(delivery, lines(), lambda: show(delivery.acknowledged + delivery.stored, total))
        return {"sent": delivery.acknowledged, "stored": delivery.stored, "skipped": 0, "ids": self._ids}

    async def _send_all(self, delivery: Delivery, lines: Iterable[Line], show: Callable[[], None]) -> None:
        from streams.cli.sending import Sendable, WaitForSettled
        from streams.cli.wait import wait_until_settled

        chunk: list[Sendable] = []
        for line in lines:
            if isinstance(line, Sendable):
                chunk.append(line)
                if self._keep_ids:
                    self._ids.append(line.message_id)
            if len(chunk) >= CHUNK_RECORDS or isinstance(line, WaitForSettled):
                await delivery.send(chunk)
                chunk = []
                show()
            if isinstance(line, WaitForSettled):
                await wait_until_settled(self._settings, self._wait_seconds, quiet=True)
        await delivery.send(chunk)
        show()

    async def _late_database(self, stack: AsyncExitStack) -> Database | None:
        """The database, once somebody has made it: sending needs none by itself."""
        from streams.storage.errors import SchemaMismatch

        if self._database is None:
            try:
                self._database = await stack.enter_async_context(open_database(self._settings))
            except (Failed, SchemaMismatch):
                return None
        return self._database


def _one(type_name: str, data: str, message_id: str | None, time: str | None) -> list[Line]:
    from streams.cli.sending import sendable

    try:
        return [sendable(type_name, data.encode("utf-8", "surrogateescape"), message_id, time)]
    except (LookupError, ValueError) as error:
        raise Refused(f"{error}; nothing was sent") from None


def _opened(file: Path) -> BinaryIO:
    """The file; standard input is copied first, because it is read twice."""
    try:
        if str(file) == "-":
            copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
            shutil.copyfileobj(sys.stdin.buffer, copy)
            return copy
        return file.open("rb")
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None


def _validated(file: Path, source: BinaryIO, type_name: str, *, skip_invalid: bool) -> tuple[int, int]:
    """Read everything once; how many messages there are, and how many lines are left out."""
    from streams.cli.sending import BadLine, Sendable, lines_of

    total, bad, first = 0, 0, ""
    source.seek(0)
    for number, line in lines_of(source, type_name or None):
        if isinstance(line, BadLine):
            bad += 1
            first = first or f"{file}:{number}: {line.reason}"
            if skip_invalid and bad <= SHOWN_BAD_LINES:
                say(f"payday send: left out {file}:{number}: {line.reason}")
        total += isinstance(line, Sendable)
    if bad and not skip_invalid:
        more = f" (and {bad - 1} more bad lines)" if bad > 1 else ""
        raise Refused(f"{first}{more}; nothing was sent (--skip-invalid leaves bad lines out)")
    if bad > SHOWN_BAD_LINES:
        say(f"payday send: and {bad - SHOWN_BAD_LINES} more bad lines")
    return total, bad


def _again(source: BinaryIO, type_name: str) -> Iterable[Line]:
    from streams.cli.sending import lines_of

    source.seek(0)
    return (line for _number, line in lines_of(source, type_name or None))
