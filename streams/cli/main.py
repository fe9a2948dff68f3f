"""The `payday` command: what there is, and how it ends.

Invariant: standard output carries results only; whatever goes wrong is one line on standard error and an exit code of
1 (the check or the job failed) or 2 (wrong use), and a traceback only with `--debug`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from streams.cli import (
    audit,
    bank,
    broker,
    contracts,
    db,
    dead_letters,
    events,
    ledger,
    outbox,
    payouts,
    run,
    send,
    status,
    topics,
    wait,
)
from streams.cli.errors import WRONG_USE, explain
from streams.cli.output import say

__all__ = ["app", "main"]

app = typer.Typer(
    name="payday",
    help="Turns finished work into money on Kafka: no event lost, nothing applied twice.",
    epilog="Begin with: payday demo · Each command explains itself: payday send --help",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of whatever goes wrong.")] = False,
) -> None:
    """`--debug` is taken out of the arguments by `main`, so that it may stand anywhere."""


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long the traffic lasts.")] = 30.0,
    headless: Annotated[bool, typer.Option("--headless", help="Without the live display.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the totals as one JSON value at the end.")] = False,
) -> None:
    """Show everything at once: broker, database, streams and traffic in a temporary home.

    Needs nothing but this program, leaves nothing behind, and ends with an audit.

    Example: payday demo --seconds 10 --headless --json
    """
    from importlib import import_module

    code = import_module("streams.cli.demo").run_demo(seconds=seconds, headless=headless, as_json=as_json)
    raise typer.Exit(code if isinstance(code, int) else 0)


app.command("run")(run.run)
app.command("broker")(broker.broker)
app.command("bank")(bank.bank)
app.add_typer(db.app, name="db")
app.add_typer(topics.app, name="topics")
app.command("send")(send.send)
app.command("status")(status.status)
app.command("wait")(wait.wait)
app.command("audit")(audit.audit)
app.command("ledger")(ledger.ledger)
app.command("events")(events.events)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(outbox.app, name="outbox")
app.add_typer(payouts.app, name="payouts")
app.add_typer(contracts.app, name="contracts")


def main() -> None:
    """Run the command that the arguments name, and exit."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    code = _run([argument for argument in arguments if argument != "--debug"], debug=debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        result = app(arguments, prog_name="payday", standalone_mode=False)
    except typer.TyperException as error:
        return _wrong_use(error)
    except (typer.Abort, KeyboardInterrupt):
        say("payday: stopped")
        return 128 + 2
    except BrokenPipeError:  # `payday events | head`
        _silence_stdout()
        return 0
    except Exception as error:
        if debug:
            raise
        explanation = explain(error)
        for line in explanation.text.splitlines():
            say(f"payday: {line}")
        return explanation.exit_code
    return result if isinstance(result, int) else 0


def _wrong_use(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    text = error.format_message()
    if not text or "\n" in text.strip():  # no command at all: the help has been shown
        say(text)
        return WRONG_USE
    command = context.command_path if context is not None else "payday"
    say(f"{command}: {text.rstrip('.')}; see `{command} --help`")
    return error.exit_code


def _silence_stdout() -> None:
    """The reader has gone: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
