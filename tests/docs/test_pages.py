"""What the pages say agrees with the code, as far as a program can tell."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from otel import names
from streams.settings import Settings
from tests.docs.pages import PAGES, ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LIMIT = re.compile(
    r"^\| [^|]+ \| (?P<value>[0-9.]+) \| [^|]+ \| [^|]+ \| `(?P<module>[a-z_.]+):(?P<name>[A-Za-z_.]+)` \|$"
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that are linked to."""
    for target in LINK.findall(without_code(page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file == ROOT or ROOT in file.parents, target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """Tests and modules that a page names in code marks."""
    for name in re.findall(r"`((?:tests|streams|contracts|otel|scripts|docs)/[\w./-]+)`", page.read_text()):
        if "0002_" not in name:  # the migration that a reader is about to write
            assert (ROOT / name).exists(), name


def test_the_page_of_settings_is_what_the_script_makes() -> None:
    """Nobody edits it by hand, and nobody adds a setting without it: run scripts/generate_settings.py."""
    script = [sys.executable, str(ROOT / "scripts" / "generate_settings.py"), "--check"]
    found = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_has_a_meaning(name: str) -> None:
    """No row without text: the docstring below the field is the documentation."""
    (row,) = re.findall(rf"^\| `PAYDAY_{name.upper()}` \|.*$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert len(row.split("|")[-2].strip()) > 10


def test_every_metric_is_documented() -> None:
    """Under the name that Prometheus shows, and no other is."""
    metrics = {value.replace(".", "_") for key, value in vars(names).items() if is_metric(key, value)}
    table = set(re.findall(r"^\| `(payday_\w+)` \|", OPERATIONS, re.MULTILINE))
    assert {re.sub(r"(_seconds|_total)+$", "", name) for name in table} == metrics


def is_metric(key: str, value: Any) -> bool:
    return key.isupper() and isinstance(value, str) and value.startswith("payday.")


def test_every_limit_has_the_value_that_the_page_gives() -> None:
    """A constant that is changed makes the table false."""
    section = OPERATIONS.partition("\n## Limits")[2]
    limits = [found for line in section.splitlines() if (found := LIMIT.match(line))]
    assert len(limits) == sum(line.startswith("|") for line in section.splitlines()) - 2 >= 20
    for limit in limits:
        value: Any = importlib.import_module(limit["module"])
        for part in limit["name"].split("."):
            value = getattr(value() if isinstance(value, type) else value, part)
        assert value == float(limit["value"]), limit[0]


def test_every_check_of_the_audit_has_an_advice() -> None:
    """Whoever sees one fail finds it on the page."""
    from streams.inspection.audit import EXPECTED  # noqa: PLC0415  only this test asks
    from streams.inspection.checks import CHECKS, SETTLED_CHECKS  # noqa: PLC0415

    section = OPERATIONS.partition("### The audit fails")[2].partition("\n### ")[0]
    assert {*(check.name for check in (*CHECKS, *SETTLED_CHECKS)), EXPECTED} == {
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }


def test_the_picture_is_sound_and_small() -> None:
    """XML with a title and a description for those who cannot see it, no script, nothing from elsewhere."""
    text = (ROOT / "docs/images/one-message.svg").read_text()
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.find(f"{space}title") is not None
    assert root.find(f"{space}desc") is not None
    assert "<script" not in text
    assert "href" not in text
    assert len(text) < 10_000
