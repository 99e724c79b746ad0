"""What is looked for by a list of values is found through an index: a commit costs the same at any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Select, event, text

from runner.store import budget_queries, ledger_queries, queries
from runner.store.store import Store

QUESTIONS: dict[str, tuple[Callable[[], Select[Any]], dict[str, Any]]] = {
    "fences": (queries.fences_of, {"of_run": 1, "seqs": [3, 4]}),
    "sends": (queries.sends_of, {"of_run": 1, "idxs": [3, 4]}),
    "results": (queries.results_among, {"of_run": 1, "idxs": [3, 4]}),
    "bookings": (ledger_queries.bookings_among, {"keys": ["1.3.1.1.0", "1.4.1.1.0"]}),
    "budgets": (budget_queries.budgets_among, {"scopes": ["all", "run:1"], "periods": ["all", "2026-11"]}),
}
# How each says that it looks for both: by the run and the number of a row, not by the run alone.
BY_THE_LIST = {
    "sqlite": {
        "fences": "(run=? AND seq=?)",
        "sends": "(run=? AND idx=?)",
        "results": "(run=? AND idx=?)",
        "bookings": "(key=?)",
        "budgets": "(scope=? AND period=?)",
    },
    "postgresql": {
        "fences": "(seq = ANY",
        "sends": "(idx = ANY",
        "results": "(idx = ANY",
        "bookings": "(key = ANY",
        "budgets": "(scope = ANY",
    },
}


def plan_of(connection: Connection, question: Select[Any], values: dict[str, Any]) -> str:
    """How the database goes about a question, in its own words."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, told: Any, *_more: object) -> None:
        asked.append((statement, told))

    event.listen(connection, "before_cursor_execute", note)
    connection.execute(question, values).close()
    event.remove(connection, "before_cursor_execute", note)
    ((statement, told),) = asked
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {statement}", told))


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_list_of_values_is_searched_for_and_nothing_is_scanned(store: Store, name: str) -> None:
    def explained(connection: Connection) -> str:
        if connection.dialect.name == "postgresql":  # which reads a small table whole, whatever there is
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        question, values = QUESTIONS[name]
        return plan_of(connection, question(), values)

    plan = store.database.read(explained)
    kind = "sqlite" if store.database.is_sqlite else "postgresql"
    assert BY_THE_LIST[kind][name] in plan, plan
