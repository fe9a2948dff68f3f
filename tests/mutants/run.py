"""Breaks the code on purpose, one fault at a time, and sees the tests go red.

    python -m tests.mutants.run [NAME ...]    (or: make mutants)

Each planted fault replaces one piece of text in a copy of the tree and runs the tests that guard it. A fault that no
test notices makes this fail: a guarantee that nobody watches is a wish. A fault whose text is no longer there makes it
fail as well, so that this list cannot rot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.faults import FAULTS as KIT_FAULTS
from tests.mutants.faults import Fault
from tests.mutants.payout_faults import PAYOUT_FAULTS

ROOT = Path(__file__).resolve().parents[2]
FAULTS = (*KIT_FAULTS, *PAYOUT_FAULTS)
COPIED = ("contracts", "streams", "tests", "examples", "pyproject.toml")
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Verdict:
    """What became of one planted fault."""

    fault: Fault
    noticed: bool
    seconds: float
    said: str


def main(names: list[str]) -> int:
    """Plant the named faults, or all of them."""
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        print(f"no such fault: {', '.join(sorted(unknown))}; there are: {', '.join(f.name for f in FAULTS)}")
        return 2
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    verdicts = []
    for number, fault in enumerate(chosen, 1):
        verdict = plant(fault)
        verdicts.append(verdict)
        mark = "red, as it should be" if verdict.noticed else "NOT NOTICED"
        print(f"[{number}/{len(chosen)}] {fault.name}: {mark} ({verdict.seconds:.1f} s)", flush=True)
        if not verdict.noticed:
            print(verdict.said)
    missed = [verdict.fault.name for verdict in verdicts if not verdict.noticed]
    print(f"{len(verdicts) - len(missed)} of {len(verdicts)} planted faults were noticed")
    return 1 if missed else 0


def plant(fault: Fault) -> Verdict:
    """Run the guarding tests on a copy with the fault in it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="payday-mutant-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        path = copy / fault.file
        text = path.read_text()
        if text.count(fault.old) != 1:
            return Verdict(fault, False, 0.0, f"{fault.file} has the text to replace {text.count(fault.old)} times")
        path.write_text(text.replace(fault.old, fault.new))
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *fault.tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    noticed = run.returncode == 1 and " failed" in run.stdout
    return Verdict(fault, noticed, time.monotonic() - started, run.stdout[-2000:] + run.stderr[-1000:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
