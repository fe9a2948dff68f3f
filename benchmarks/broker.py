"""The embedded broker in a process of its own, until standard input ends. Prints its address."""

from __future__ import annotations

import sys

from benchmarks.workload import FLOOR_TOPIC
from contracts.catalog import topics
from streams.embedded.broker import EmbeddedBroker

if __name__ == "__main__":
    with EmbeddedBroker((*topics(), FLOOR_TOPIC)) as broker:
        print(broker.address, flush=True)
        sys.stdin.read()
