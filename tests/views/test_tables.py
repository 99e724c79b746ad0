"""Columns line up; the last ones go where there is no room."""

from __future__ import annotations

from runner.views.tables import Column, facts_lines, table_lines

COLUMNS = (Column(title="RUN"), Column(title="ROWS", right=True), Column(title="NOTE", most=12))
ROWS = [["r_1", "5", "short"], ["r_22", "1,200", "much too long a note"], ["日本", "7", "wide\x1b[1m"]]


def test_columns_line_up_and_long_cells_are_cut() -> None:
    assert table_lines(COLUMNS, ROWS, None) == [
        "RUN    ROWS  NOTE",
        "r_1       5  short",
        "r_22  1,200  much too...",
        "日本      7  wide\\x1b[1m",
    ]


def test_the_last_columns_go_first() -> None:
    assert table_lines(COLUMNS, ROWS, 14)[2] == "r_22  1,200"
    assert table_lines(COLUMNS, ROWS, 5)[2] == "r_22"
    assert table_lines(COLUMNS, ROWS, 1)[2] == "r_22"


def test_plain_cuts_nothing() -> None:
    assert table_lines(COLUMNS, ROWS, 5, plain=True)[2] == "r_22\t1,200\tmuch too long a note"


def test_facts_stand_under_each_other() -> None:
    assert facts_lines([("rows", "1"), ("latency", "a\nb")]) == ["rows     1", "latency  a", "         b"]
