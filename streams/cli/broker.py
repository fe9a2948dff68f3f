"""`payday broker`: the embedded broker on its own."""

from __future__ import annotations

import asyncio
import fcntl
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.errors import Failed
from streams.cli.opening import load
from streams.cli.output import say
from streams.cli.signals import StopSignals, leave_cleanly_when_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.settings import Settings

__all__ = ["broker"]

LOOK_TIMEOUT_SECONDS = 2.0
LOCK_FILE = "broker.lock"
ADVICE = "use that one, or give another --home"


def broker(
    home: Annotated[
        Path | None, typer.Option(help="Where the app looks for the address; as PAYDAY_HOME.", show_default=False)
    ] = None,
) -> None:
    """Run a Kafka broker inside this process, for trying out and for tests.

    The first line on standard output is its address. Every command in the same home finds it by itself. It runs until
    it is stopped (Ctrl-C, SIGTERM), and then forgets every message.

    Example: payday broker & payday run
    """
    leave_cleanly_when_stopped()
    settings = load(**({} if home is None else {"home": home}))
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from contracts.catalog import topics
    from streams.embedded.broker import LIMITS, EmbeddedBroker

    stop = StopSignals()
    names = [settings.topic_prefix + topic for topic in topics()]
    with _only_one(settings), EmbeddedBroker(names, settings.embedded_address_file) as embedded:
        sys.stdout.write(embedded.address + "\n")
        sys.stdout.flush()
        say(f"payday broker: {LIMITS}")
        await stop.wait()


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Two brokers in one home would leave the app talking to the one and `send` to the other.

    A lock decides between two that start at once; it ends with the process, however that ends.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = (settings.home / LOCK_FILE).open("w")
    except OSError as error:
        raise Failed(f"the home {settings.home} cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"a broker of this home ({settings.home}) runs already: {ADVICE}") from None
        _refuse_beside(settings)
        yield


def _refuse_beside(settings: Settings) -> None:
    """Brokers that other programs embed take no lock, but they answer."""
    from confluent_kafka import KafkaException

    from streams.inspection.log_ends import quiet_consumer

    try:
        address = settings.embedded_address_file.read_text().strip()
    except OSError:
        return
    if not address:
        return
    consumer = quiet_consumer(address, "payday-inspection")
    try:
        consumer.list_topics(timeout=LOOK_TIMEOUT_SECONDS)
    except KafkaException:
        return
    finally:
        consumer.close()
    raise Failed(f"a broker of this home ({settings.home}) runs at {address} already: {ADVICE}")
