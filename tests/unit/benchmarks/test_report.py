"""The table of the benchmark says what was measured, and the page shows it."""

from __future__ import annotations

import pytest

from benchmarks.findings import QUICK, Findings, Row
from benchmarks.memory import slope_mb
from benchmarks.process import ROOT
from benchmarks.report import BEGIN, END, Machine, NoSection, Report, replace_section

MACHINE = Machine("2 x Test", {"python": "3"}, "2026-11-22 18:00 UTC", 0.5, 1.5, 300.0)
ROWS = [
    Row("throughput", "a", "(a) Payday", "records/s", (9000.0, 8000.0, 9500.4)),
    Row("throughput", "a_to_b", "(a) / (b)", "ratio", (25.0, 24.994, 30.0)),
    Row("memory", "memory_start", "(a), at the start", "MB", (105.4,)),
]


def report() -> Report:
    return Report(MACHINE, QUICK, [Findings(ROWS, [(0, 105.4)], ["A remark."])])


def test_a_row_shows_the_median_of_its_runs_between_the_lowest_and_the_highest() -> None:
    assert "| (a) Payday | records/s | 9,000 | 8,000 to 9,500 |" in report().as_markdown()
    assert "| (a) / (b) | ratio | 25.00 | 24.99 to 30.00 |" in report().as_markdown()


def test_a_single_run_has_no_range() -> None:
    assert "| (a), at the start | MB | 105 |  |" in report().as_markdown()


@pytest.mark.parametrize("circumstance", ["2 x Test", "load average 0.50 before and 1.50 at most", "A remark."])
def test_the_circumstances_stand_beside_the_figures(circumstance: str) -> None:
    assert circumstance in report().as_markdown()
    assert circumstance in report().as_text()


def test_programs_get_every_run_and_every_sample() -> None:
    said = report().as_json()
    assert said["rows"][0]["values"] == (9000.0, 8000.0, 9500.4)
    assert said["rows"][0]["median"] == 9000.0
    assert said["memory_samples"] == [(0, 105.4)]


def test_only_the_marked_section_of_a_page_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_section(page, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_section(once, "new") == once


@pytest.mark.parametrize("page", ["", BEGIN, END])
def test_a_page_without_a_section_is_not_touched(page: str) -> None:
    with pytest.raises(NoSection):
        replace_section(page, "new")


def test_the_page_has_a_section_for_the_figures() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert "records/s" in page[page.index(BEGIN) : page.index(END)]


def test_the_slope_is_growth_per_100_000_records_within_its_bounds() -> None:
    """What lies outside the bounds, the filling of caches for instance, does not count."""
    samples = [(0, 100.0), (100_000, 150.0), (200_000, 153.0), (300_000, 156.0)]
    assert slope_mb(samples, 100_000, 300_000) == pytest.approx(3.0)
    assert slope_mb(samples, 0, 100_000) == pytest.approx(50.0)
