"""The embedded broker in a process of its own, until standard input ends. Prints its address."""

from __future__ import annotations

import sys

from contracts.catalog import topics
from streams.embedded.broker import EmbeddedBroker

if __name__ == "__main__":
    with EmbeddedBroker(topics()) as broker:
        print(broker.address, flush=True)
        sys.stdin.read()
