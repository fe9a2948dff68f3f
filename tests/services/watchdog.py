"""Ends the servers of a pytest that has died without a chance to do so itself.

Run as a process of its own. It reads one JSON object per line from standard input, whose other end pytest holds:
`{"watch": pid}`, `{"forget": pid}`, `{"directory": path}`. When pytest ends in whatever way, the input ends, and what
is still watched is killed with its children, and the directories are removed.

Invariant: a process is known by its id and its time of birth, so one that was given a used id is never touched.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

WAIT_SECONDS = 5.0
LOOK_SECONDS = 0.005


def main() -> None:
    """Read until the end of the input, then clear up."""
    watched: dict[int, psutil.Process] = {}
    directories: list[str] = []
    for line in sys.stdin:
        match json.loads(line):
            case {"watch": int(pid)}:
                with suppress(psutil.NoSuchProcess):
                    watched[pid] = psutil.Process(pid)
            case {"forget": int(pid)}:
                watched.pop(pid, None)
            case {"directory": str(path)}:
                directories.append(path)
            case other:
                raise ValueError(f"not understood: {other!r}")
    for process in watched.values():
        kill_tree(process)
    for path in directories:
        shutil.rmtree(path, ignore_errors=True)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL to a process and all below it; returns when they are gone, whether or not somebody took note of it."""
    with suppress(psutil.NoSuchProcess):
        process.suspend()  # so that it starts no more children
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(_is_gone(one) for one in family) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


if __name__ == "__main__":
    main()
