"""Whatever goes wrong becomes a line and an exit code."""

from __future__ import annotations

from importlib import import_module

import pytest

from contracts.catalog import UnknownType
from streams.cli import errors, main
from streams.cli.errors import Failed, Refused, explain
from streams.inspection.log_ends import BrokerUnreachable
from streams.settings import BrokerUnknown, SettingsError
from streams.storage.errors import DatabaseReadOnly, SchemaMismatch


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Refused("no"), 2, "no"),
        (Failed("no"), 1, "no"),
        (SettingsError("PAYDAY_X"), 2, "PAYDAY_X"),
        (BrokerUnknown("start one"), 1, "start one"),
        (BrokerUnreachable("no answer"), 1, "PAYDAY_KAFKA_BOOTSTRAP_SERVERS"),
        (SchemaMismatch("run upgrade"), 1, "run upgrade"),
        (DatabaseReadOnly("x is read-only"), 1, "must be writable"),
        (UnknownType("x"), 2, "unknown type 'x'"),
        (ZeroDivisionError("by zero"), 1, "this should not happen: ZeroDivisionError: by zero"),
    ],
)
def test_an_error_is_explained(error: Exception, code: int, text: str) -> None:
    """Known errors speak for themselves; an unknown one says how to see more."""
    found = explain(error)
    assert found.exit_code == code
    assert text in found.text
    assert ("--debug" in found.text) == isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("name", sorted(errors.KNOWN | errors.ADVICE))
def test_every_name_that_is_explained_exists(name: str) -> None:
    """The table holds names, so that a renamed exception would silently become a defect."""
    module, _, attribute = name.rpartition(".")
    assert issubclass(getattr(import_module(module), attribute), Exception)


def test_debug_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it the exception itself comes out, from behind any command."""
    monkeypatch.setenv("PAYDAY_CURRENCY", "dollars")
    monkeypatch.setattr("sys.argv", ["payday", "contracts", "list", "--debug"])
    with pytest.raises(SettingsError, match="PAYDAY_CURRENCY"):
        main.main()


def test_without_debug_it_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, nothing on standard output."""
    monkeypatch.setenv("PAYDAY_CURRENCY", "dollars")
    monkeypatch.setattr("sys.argv", ["payday", "contracts", "list"])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("payday: PAYDAY_CURRENCY='dollars'")
    assert captured.err.count("\n") == 1
