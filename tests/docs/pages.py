"""The pages for people, and the shell blocks in them with their markers.

A block of commands is fenced as `sh`, and the line before the fence is a marker, which no reader sees:

    <!-- runs -->                            it is run to its end and exits with 0
    <!-- runs: exits 1 -->                   it exits with this code
    <!-- runs: background -->                it is started and goes on running until the page ends; the next block
                                             begins when it has written its first line to standard output
    <!-- runs: needs broker, app -->         `payday broker` and `payday run` are running before it is run
    <!-- not run: covered by FILE::TEST -->  too long or too much for here, and this test does the same
    <!-- not run: reason -->                 it cannot be run here

The blocks of a page run in order, from the root of the repository, in one shell session as far as exported variables
are concerned. So that two runs do not meet, `/tmp/` becomes a directory of the page's own, and the ports 8080 and 8090
become free ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "PageTrouble", "blocks_in", "blocks_of"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
MARKER = re.compile(r"<!-- (?P<verb>runs|not run)(?:: (?P<text>[^>]*\S))? -->")
SERVICES = ("broker", "app")
OTHER_NAMES_OF_SHELL = ("bash", "shell", "console", "zsh", "shell-session")


class PageTrouble(AssertionError):
    """A page does not keep to the convention; the text says where and how."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some commands of a page.

    Attributes:
        page: relative to the root.
        line: of the fence, from 1.
        text: the commands.
        reason: why it is not run; None: it is.
        background: whether it goes on running.
        exit_code: what it is to end with.
        needs: services that must be running.
    """

    page: str
    line: int
    text: str
    reason: str | None = None
    background: bool = False
    exit_code: int = 0
    needs: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """For a message."""
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The shell blocks of a page.

    Raises:
        PageTrouble: a block has no marker, or one that means nothing.
    """
    return blocks_in(str(page.relative_to(ROOT)), page.read_text())


def blocks_in(name: str, text: str) -> list[Block]:
    """As `blocks_of`, for a page's text."""
    found = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"\s*```(\S*).*", lines[number])
        if fence is None:
            number += 1
            continue
        end = next((n for n in range(number + 1, len(lines)) if lines[n].strip() == "```"), None)
        if end is None:
            raise PageTrouble(f"{name}:{number + 1}: the fence is not closed")
        if fence[1] in OTHER_NAMES_OF_SHELL:
            raise PageTrouble(f"{name}:{number + 1}: fence commands as sh, not as {fence[1]}")
        if fence[1] == "sh":
            marker = lines[number - 1].strip() if number else ""
            found.append(_block(name, number + 1, "\n".join(lines[number + 1 : end]) + "\n", marker))
        number = end + 1
    return found


def _block(page: str, line: int, text: str, marker: str) -> Block:
    match = MARKER.fullmatch(marker)
    if match is None:
        raise PageTrouble(
            f"{page}:{line}: no marker such as <!-- runs --> in the line before (see tests/docs/pages.py)"
        )
    said = match["text"] or ""
    if match["verb"] == "not run":
        if not said:
            raise PageTrouble(f"{page}:{line}: say why it is not run")
        return Block(page, line, text, reason=said)
    if not said:
        return Block(page, line, text)
    if said == "background":
        return Block(page, line, text, background=True)
    if code := re.fullmatch(r"exits (\d+)", said):
        return Block(page, line, text, exit_code=int(code[1]))
    needs = tuple(said.removeprefix("needs ").split(", "))
    if said.startswith("needs ") and set(needs) <= set(SERVICES):
        return Block(page, line, text, needs=needs)
    raise PageTrouble(f"{page}:{line}: {marker} means nothing")
