"""Writes docs/settings.md from `streams/settings.py`, so that the page cannot say anything else than the code.

Usage: python scripts/generate_settings.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from streams import settings as module
from streams.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(module.__file__)
PAGE = ROOT / "docs" / "settings.md"
BOUNDS = (("ge", "at least {}"), ("gt", "more than {}"), ("le", "at most {}"), ("lt", "less than {}"))
WORDS = {"str": "text", "int": "whole number", "float": "number", "Path": "path", "SecretStr": "text, kept out of logs"}
CHECKED = {
    "time_zone": "an IANA name such as `Europe/Berlin`",
    "database_url": "`sqlite+aiosqlite:///file.db` or `postgresql+asyncpg://user@host/name`",
    "alarm_webhook_url": "`http://` or `https://`, kept out of logs",
    "kafka_bootstrap_servers": "`host:port`, several separated by commas",
}
"""What validators in Python ask for, which no annotation says. A test sees that none is forgotten."""

HEAD = """\
# Settings

Every setting is an environment variable. They are read once, when a process starts; an empty one counts as unset, one
with another name is ignored. A senseless value ends the command with exit code 2 and a line that names the variable.

This page is made from [settings.py](../streams/settings.py) by `python scripts/generate_settings.py`.

| variable | type | default | meaning |
|---|---|---|---|
"""

TAIL = """
The command line shows what came of them: `payday run` names the address on which it serves health and metrics, and
`payday db check` compares the database. What each limit does at its edge is in
[operations.md](operations.md#limits).
"""


def docstrings() -> dict[str, str]:
    """What stands below each field, by the field's name: Python itself does not keep it."""
    tree = ast.parse(SOURCE.read_text())
    (settings,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Settings.__name__)
    found = {}
    for field, after in zip(settings.body, settings.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[field.target.id] = " ".join(after.value.value.split())
    return found


def page() -> str:
    """The page as it should be."""
    texts = docstrings()
    rows = (_row(name, field, texts.get(name, "")) for name, field in Settings.model_fields.items())
    return HEAD + "".join(rows) + TAIL


def _row(name: str, field: FieldInfo, text: str) -> str:
    prefix = Settings.model_config["env_prefix"]
    default = "unset" if field.default is None else f"`{field.default}`" if str(field.default) else "empty"
    return f"| `{prefix}{name.upper()}` | {_type(name, field)} | {default} | {text.replace('|', chr(92) + '|')} |\n"


def _type(name: str, field: FieldInfo) -> str:
    annotation, metadata = _unwrapped(field.annotation, list(field.metadata))
    if choices := [choice for choice in get_args(annotation) if isinstance(choice, str)]:
        return ", ".join(f"`{choice}`" for choice in choices)
    said = [CHECKED.get(name) or WORDS[annotation.__name__]]
    bounds = {key: getattr(one, key) for one in metadata for key, _ in BOUNDS if getattr(one, key, None) is not None}
    if {"ge", "le"} <= bounds.keys():
        said.append(f"{bounds['ge']} to {bounds['le']}")
    else:
        said += [words.format(bounds[key]) for key, words in BOUNDS if key in bounds]
    for one in metadata:
        if (longest := getattr(one, "max_length", None)) is not None:
            said.append(f"at most {longest} characters")
        if (pattern := getattr(one, "pattern", None)) is not None:
            said.append(f"`{pattern}`")
    return ", ".join(said)


def _unwrapped(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """The type itself and its bounds, without `Annotated` and `| None`. Bounds may be nested in a `Field`."""
    if hasattr(annotation, "__metadata__"):
        return _unwrapped(annotation.__origin__, [*metadata, *annotation.__metadata__])
    options = [option for option in get_args(annotation) if option is not type(None)]
    if len(options) == 1 and len(options) < len(get_args(annotation)) and get_origin(annotation) is not None:
        return _unwrapped(options[0], metadata)
    return annotation, [part for one in metadata for part in (getattr(one, "metadata", None) or [one])]


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is what this makes."""
    text = page()
    if arguments == ["--check"]:
        same = PAGE.exists() and PAGE.read_text() == text
        print("docs/settings.md is up to date" if same else "run: .venv/bin/python scripts/generate_settings.py")
        return 0 if same else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
