"""The jars of Apache Kafka and the Java to run them with, kept in `.cache` of the repository.

Maven resolves the jars once, from `pom.xml` beside this file. An archive of the loaded classes (class data sharing) is
then made by running a broker once; it shortens every later start, and a broker runs without it as well.

Invariant: a folder in the cache is whole or absent. It is made under another name and renamed, under a lock, so that
two test runs at once make it once.

`python -m tests.services.kafka_jars` does it ahead of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.required import ServiceMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KAFKA_VERSION", "Distribution", "distribution"]

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parent.parent.parent / ".cache"
KAFKA_VERSION = re.findall(r"<version>(.+?)</version>", POM.read_text())[1]
OLDEST_JAVA = 17
MAVEN_SECONDS = 100.0
JAVA_SECONDS = 30.0
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Distribution:
    """What runs a broker.

    Attributes:
        java: the program.
        java_version: what `java -version` says.
        folder: the jars, and the archives of classes.
    """

    java: str
    java_version: str
    folder: Path

    @cached_property
    def class_path(self) -> str:
        """Every jar, in an order that is always the same: an archive of classes fits only the path it was made with."""
        return os.pathsep.join(str(path) for path in sorted(self.folder.glob("*.jar")))

    @property
    def class_archive(self) -> Path:
        """The archive for this Java, which may not be there."""
        made_with = hashlib.sha256(f"{self.java_version}\n{self.class_path}".encode()).hexdigest()[:16]
        return self.folder / f"classes-{made_with}.jsa"


def distribution() -> Distribution:
    """Find Java, and the jars in the cache, or have Maven fetch them.

    Raises:
        ServiceMissing: there is no Java, or no Maven, or Maven failed.
    """
    java, java_version = _java()
    folder = CACHE / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"
    if not folder.is_dir():
        with cache_lock():
            if not folder.is_dir():
                _resolve(folder)
    return Distribution(java, java_version, folder)


@contextmanager
def cache_lock() -> Iterator[None]:
    """Held by the one who makes something in the cache; it goes with the process that holds it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _java() -> tuple[str, str]:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else None
    java = java or shutil.which("java")
    if java is None:
        raise ServiceMissing(f"no Java {OLDEST_JAVA} or newer was found")
    try:
        ran = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=JAVA_SECONDS, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServiceMissing(f"{java} does not run: {error}") from error
    found = re.search(r'version "(\d+)', ran.stderr)
    if ran.returncode != 0 or found is None or int(found[1]) < OLDEST_JAVA:
        raise ServiceMissing(f"{java} is not Java {OLDEST_JAVA} or newer: {ran.stderr[:SHOWN_CHARACTERS]!r}")
    return java, ran.stderr


def _resolve(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceMissing("Maven (mvn), which fetches Kafka's jars once, was not found")
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=CACHE))
    try:
        # Maven writes beside the pom it reads, so it reads a copy.
        shutil.copy(POM, made / "pom.xml")
        ran = subprocess.run(
            [maven, "-B", "-q", "dependency:copy-dependencies", f"-DoutputDirectory={made / 'jars'}"],
            cwd=made,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAVEN_SECONDS,
            check=False,
            errors="replace",
        )
        if ran.returncode != 0:
            said = " ".join((ran.stdout + ran.stderr).split())[:SHOWN_CHARACTERS]
            raise ServiceMissing(f"Maven could not fetch Kafka {KAFKA_VERSION}: {said}")
        (made / "jars").rename(folder)
    except subprocess.TimeoutExpired:
        raise ServiceMissing(f"Maven did not fetch Kafka {KAFKA_VERSION} within {MAVEN_SECONDS:g} s") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def main() -> int:
    """Fetch what is missing and say what there is."""
    from tests.services.kafka_local import with_class_archive  # noqa: PLC0415  it is built on this module
    from tests.services.process import Yard  # noqa: PLC0415

    try:
        found = distribution()
    except ServiceMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    yard = Yard()
    try:
        with_class_archive(found, yard)
    finally:
        yard.close()
    sys.stdout.write(f"Kafka {KAFKA_VERSION}: {found.folder.relative_to(CACHE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
