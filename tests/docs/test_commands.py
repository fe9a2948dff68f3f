"""Every command in the documentation does what its page says, in the order of the page."""

from __future__ import annotations

import ast
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import PAGES, ROOT, Block, PageTrouble, blocks_in, blocks_of
from tests.docs.session import Session

if TYPE_CHECKING:
    from pathlib import Path

COVERED_BY = "covered by "
WITH_COMMANDS = [page for page in PAGES if "```sh" in page.read_text()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_marked_and_every_covering_test_exists(page: Path) -> None:
    """A command that nobody runs needs a reason, and a reason that names a test must name one that is there."""
    for block in blocks_of(page):
        if block.reason is not None and block.reason.startswith(COVERED_BY):
            file, _, test = block.reason.removeprefix(COVERED_BY).partition("::")
            assert (ROOT / file).is_file(), block.where
            assert test in functions_of(ROOT / file), f"{block.where}: {file} has no {test}"


def functions_of(file: Path) -> list[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def require(program: str) -> None:
    """A program that is missing skips with a reason, and fails where `PAYDAY_TEST_REQUIRE` names it."""
    if shutil.which(program) is None:
        reason = f"{program} is not installed"
        (pytest.fail if program in os.environ.get("PAYDAY_TEST_REQUIRE", "").split(",") else pytest.skip)(reason)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page_work(page: Path, tmp_path: Path) -> None:
    """In a home of their own, from the first block to the last."""
    for program in ("bash", "curl"):
        if f"{program} " in page.read_text() or program == "bash":
            require(program)
    with Session(tmp_path) as session:
        for block in blocks_of(page):
            if block.reason is None:
                session.run(block)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\ntrue\n```\n", "no marker"),
        ("<!-- runs -->\n\n```sh\ntrue\n```\n", "no marker"),
        ("<!-- not run -->\n```sh\ntrue\n```\n", "say why"),
        ("<!-- runs: sometimes -->\n```sh\ntrue\n```\n", "means nothing"),
        ("<!-- runs: needs bank -->\n```sh\ntrue\n```\n", "means nothing"),
        ("<!-- runs -->\n```bash\ntrue\n```\n", "fence commands as sh"),
        ("<!-- runs -->\n```sh\ntrue\n", "not closed"),
    ],
)
def test_a_block_that_escapes_the_convention_is_refused(text: str, complaint: str) -> None:
    """Nobody can add a command that is silently not run."""
    with pytest.raises(PageTrouble, match=complaint):
        blocks_in("made-up.md", text)


@pytest.mark.parametrize(
    ("text", "exit_code", "complaint"),
    [("false\ntrue\n", 0, "exited with 1"), ("true\n", 1, "exited with 0"), ("false | cat\n", 0, "exited with 1")],
)
def test_a_command_that_fails_makes_the_page_fail(text: str, exit_code: int, complaint: str, tmp_path: Path) -> None:
    """Also one in the middle of a block or of a pipe, and one that was to fail and does not."""
    with Session(tmp_path) as session, pytest.raises(PageTrouble, match=complaint):
        session.run(Block("made-up.md", 1, text, exit_code=exit_code))


def test_exported_variables_last_from_block_to_block(tmp_path: Path) -> None:
    """A page is one session; `/tmp/` is a place of its own."""
    with Session(tmp_path) as session:
        session.run(Block("made-up.md", 1, "export GREETING='a b' PLACE=/tmp/place\nlost=1\n"))
        session.run(Block("made-up.md", 5, 'test "$GREETING" = "a b" && test -z "${lost:-}"\necho hi >$PLACE\n'))
        session.run(Block("made-up.md", 9, "sleep 60 | sed s/^/x/ & echo started; wait\n", background=True))
    assert (tmp_path / "place").read_text() == "hi\n"
