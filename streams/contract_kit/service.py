"""The `payday` command as wire mode starts it: `python -m streams.contract_kit.service run --only ...`.

It is the app as it is, with three differences. Its bank is that of contract tests. Its consumers ask an idle broker
every few milliseconds: librdkafka's mock cluster answers an empty fetch only when the whole `fetch.wait.max.ms` is
over, where Kafka answers as soon as a record comes. And it ends by itself when whoever started it is gone: its standard
input is then closed.
"""

from __future__ import annotations

import os
import signal
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from streams import app
from streams.contract_kit.bank import ContractBank

if TYPE_CHECKING:
    from streams.intake.subscription import Limits

__all__ = ["main"]

FETCH_WAIT_MAX_MS = 10
STANDARD_INPUT = 0


def main() -> None:
    """Run the installed command with the arguments of this process."""
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    wiring = vars(app)
    usual = wiring["consumer_config"]

    def consumer_config(limits: Limits) -> dict[str, Any]:
        return {**usual(limits), "fetch.wait.max.ms": FETCH_WAIT_MAX_MS}

    wiring["consumer_config"] = consumer_config
    wiring["open_bank"] = lambda _settings: ContractBank()
    (command,) = entry_points(group="console_scripts", name="payday")
    command.load()()


def _stop_when_orphaned() -> None:
    while os.read(STANDARD_INPUT, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
