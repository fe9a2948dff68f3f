"""What is printed for people survives whatever the records contain."""

from __future__ import annotations

import pytest

from streams.cli.output import money, print_table


@pytest.mark.parametrize(
    ("amount_minor", "text"),
    [(0, "0.00 USD"), (5, "0.05 USD"), (-5, "-0.05 USD"), (123456789, "1,234,567.89 USD"), (-100, "-1.00 USD")],
)
def test_money_is_exact(amount_minor: int, text: str) -> None:
    """Whole minor units, no floating point on the way."""
    assert money(amount_minor, "USD") == text


def test_a_table_shows_markup_and_control_characters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A title like [bold] or an escape sequence comes from a message, not from us."""
    print_table("t", ("a",), [["[bold]x[/bold] \x1b[31m"]])
    shown = capsys.readouterr().out
    assert "[bold]x[/bold] ?[31m" in shown
    assert "\x1b" not in shown


def test_no_rows_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table is no table."""
    print_table("parked records", ("a",), [], empty="none")
    assert capsys.readouterr().out == "parked records: none\n"
