"""The tables of states: complete, closed, and the only way to move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.states import (
    BATCH_MOVES,
    CHUNK_MOVES,
    FINISHED_RUN,
    RUN_MOVES,
    TABLES,
    BatchState,
    ChunkState,
    IllegalMove,
    Moves,
    PauseReason,
    RowStatus,
    RunState,
    after,
    diagram,
    leading_to,
)

KINDS = {"run": RunState, "chunk": ChunkState, "batch": BatchState}
STARTS = {"run": RunState.RUNNING, "chunk": ChunkState.PENDING, "batch": BatchState.PLANNED}
EACH = pytest.mark.parametrize("name", sorted(TABLES))


@EACH
def test_every_state_has_a_row_and_every_move_a_known_end(name: str) -> None:
    table, kind = TABLES[name], KINDS[name]
    assert set(table) == set(kind)
    assert {to for row in table.values() for to in row.values()} <= set(kind)


@EACH
def test_every_state_can_be_reached(name: str) -> None:
    reached, front = {STARTS[name]}, [STARTS[name]]
    while front:
        news = set(TABLES[name][front.pop()].values()) - reached
        reached |= news
        front += news
    assert reached == set(KINDS[name])


@EACH
@given(data=st.data())
def test_no_path_of_moves_leaves_the_table(name: str, data: st.DataObject) -> None:
    table, state = TABLES[name], STARTS[name]
    for _ in range(30):
        if not table[state]:
            break
        state = after(table, state, data.draw(st.sampled_from(sorted(table[state]))))
        assert state in table


@EACH
def test_a_move_that_the_table_lacks_is_refused_by_name(name: str) -> None:
    table = TABLES[name]
    events = {event for row in table.values() for event in row} | {"an event nobody knows"}
    for state, row in table.items():
        for event in events - set(row):
            with pytest.raises(IllegalMove, match=f"{state} has no move '{event}'"):
                after(table, state, event)


@EACH
def test_the_guards_name_exactly_the_states_that_have_the_move(name: str) -> None:
    table = TABLES[name]
    for event in {event for row in table.values() for event in row}:
        assert set(leading_to(table, event)) == {state for state in table if event in table[state]}
    assert leading_to(table, "an event nobody knows") == ()


@EACH
def test_the_diagram_has_an_arrow_for_every_move(name: str) -> None:
    table = TABLES[name]
    arrows = diagram(table).splitlines()[1:]
    assert len(arrows) == sum(len(row) for row in table.values())
    for state, row in table.items():
        for event, to in row.items():
            assert f"    {state} --> {to}: {event}" in arrows


@pytest.mark.parametrize(
    ("table", "path"),
    [
        (CHUNK_MOVES, ["pending", "claimed", "running", "last row settled", "done", "new round", "pending"]),
        (CHUNK_MOVES, ["running", "released", "pending", "claimed", "running"]),
        (CHUNK_MOVES, ["running", "packed", "in_batch", "rows go again", "pending"]),
        (BATCH_MOVES, ["planned", "intent", "sending", "id received", "accepted", "ended", "ended"]),
        (BATCH_MOVES, ["sending", "end unknown", "unknown", "found in a listing", "claimed", "ended", "ended"]),
        (BATCH_MOVES, ["unknown", "settled and not listed", "absent"]),
        (RUN_MOVES, ["running", "paused", "paused", "resumed", "running", "all rows succeeded", "done"]),
        (RUN_MOVES, ["running", "all rows ended", "done_with_failures", "new round", "running"]),
        (RUN_MOVES, ["paused", "cancel asked", "canceling", "nothing in flight", "canceled"]),
    ],
)
def test_the_roads_that_the_manual_tells_of_exist(table: Moves, path: list[str]) -> None:
    known = {str(state): state for state in table}
    for state, event, to in zip(path[::2], path[1::2], path[2::2], strict=False):
        assert after(table, known[state], event) == to


def test_a_batch_is_sent_at_most_once() -> None:
    """Nothing leads back to sending: one submission, one POST, whatever happens after it."""
    assert leading_to(BATCH_MOVES, "intent") == (BatchState.PLANNED,)
    assert not [state for state, row in BATCH_MOVES.items() if BatchState.PLANNED in row.values()]


def test_a_finished_run_moves_only_by_a_new_round() -> None:
    assert {RunState.DONE, RunState.DONE_WITH_FAILURES, RunState.CANCELED} == FINISHED_RUN
    for state in FINISHED_RUN:
        assert set(RUN_MOVES[state]) <= {"new round"}
    for state in set(RunState) - FINISHED_RUN:
        assert RUN_MOVES[state]


def test_the_words_that_users_see_are_these() -> None:
    assert list(RowStatus) == [
        "succeeded", "truncated", "refused", "invalid_output", "errored", "expired", "canceled",
    ]  # fmt: skip
    assert set(PauseReason) >= {"requested", "budget", "credentials", "stalled"}
