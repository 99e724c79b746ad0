"""The databases that the tests get: empty, their own, of both kinds."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, inspect, text


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_gets_an_empty_database_of_its_own(store_url: str, time: str) -> None:
    engine = create_engine(store_url)
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (n INTEGER)"))
    engine.dispose()


def test_a_database_is_dropped_even_while_somebody_is_connected(pg_url: str) -> None:
    engine = create_engine(pg_url)
    connection = engine.connect()
    assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    # Left open: the fixture must get rid of it. The pool is told not to warn about its broken connection.
    connection.invalidate()
    engine.dispose()
